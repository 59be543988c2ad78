"""The TorchScript twin: the archive's graph interpreted in eager torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from auditor.artifacts.torch_archive import TorchArchive
from auditor.artifacts.torch_tensors import StoredTensor, read_tensor, tensors
from auditor.twin.torchscript.program import Program, compile_program
from auditor.twin.torchscript.twin import TorchScriptTwin

__all__ = ["TorchScriptTwin", "open_twin"]


def open_twin(module: Any, archive: TorchArchive, *, device: str = "cpu") -> TorchScriptTwin:
    """The twin of a loaded script `module`, with the parameter names `archive` stores.

    Child only. Raises `auditor.twin.interface.NoTwin` naming the operator or construct in the way.
    """
    program = compile_program(module, device)
    return TorchScriptTwin(program, _names(program, archive), device=device)


_Content: TypeAlias = tuple[str, tuple[int, ...], bytes]


def _names(program: Program, archive: TorchArchive) -> Mapping[str, str]:
    """Artifact name of each tensor of the program; tied tensors share one, scalars have none."""
    stored = tensors(archive)
    frozen = any(key.startswith("#") for key in program.values)
    table = _constant_table(archive, stored) if frozen else {}
    names: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for key, value in program.values.items():
        if key.startswith("#"):
            found = table.get(_content(value))
        else:
            found = key if key in stored else None
        if found is not None and value.dim():
            place = (value.data_ptr(), value.dtype, value.shape, value.stride())
            names[key] = seen.setdefault(place, found)
    return names


def _constant_table(
    archive: TorchArchive, stored: Mapping[str, StoredTensor]
) -> dict[_Content, str]:
    """Names of the archive's floating constants by content.

    Graph constants (frozen archives) carry no name, but torch never stores two equal ones.
    """
    table: dict[_Content, str] = {}
    for name, entry in stored.items():
        if name.startswith("constants.") and entry.dtype.startswith(("float", "bfloat")):
            data = read_tensor(archive, entry)
            table.setdefault((entry.dtype, data.shape, data.tobytes()), name)
    return table


def _content(value: Tensor) -> _Content:
    bits = value.detach().cpu().contiguous().reshape(-1)
    raw = bits.view(torch.uint8).numpy().tobytes() if bits.numel() else b""
    return str(value.dtype).removeprefix("torch."), tuple(value.shape), raw
