"""The TorchScript twin: the archive's graph interpreted in eager torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from auditor.artifacts.torch_archive import TorchArchive
from auditor.artifacts.torch_tensors import read_tensor, tensors
from auditor.twin.torchscript.program import Program, compile_program
from auditor.twin.torchscript.twin import TorchScriptTwin

__all__ = ["TorchScriptTwin", "open_twin"]


def open_twin(module: Any, archive: TorchArchive, *, device: str = "cpu") -> TorchScriptTwin:
    """The twin of a loaded script `module`, with the parameter names `archive` stores.

    Child only. Raises `auditor.twin.interface.NoTwin` naming the operator or construct in the way.
    """
    program = compile_program(module, device)
    return TorchScriptTwin(program, _names(program, archive), device=device)


def _names(program: Program, archive: TorchArchive) -> Mapping[str, str]:
    """Artifact name of each tensor of the program; tied tensors share one, scalars have none.

    Graph constants (frozen archives) carry no name: they are matched by value to the archive's
    constant table, in which torch never stores two equal tensors.
    """
    stored = tensors(archive)
    table: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    if any(key.startswith("#") for key in program.values):
        for name, entry in stored.items():
            if name.startswith("constants.") and entry.dtype.startswith(("float", "bfloat")):
                data = read_tensor(archive, entry)
                table.setdefault((entry.dtype, data.shape, data.tobytes()), name)
    names: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for key, value in program.values.items():
        if key.startswith("#"):
            bits = value.detach().cpu().contiguous()
            raw = bits.reshape(-1).view(torch.uint8).numpy() if bits.numel() else np.empty(0)
            dtype = str(value.dtype).removeprefix("torch.")
            name = table.get((dtype, tuple(value.shape), raw.tobytes()))
        else:
            name = key if key in stored else None
        if name is None or value.dim() == 0:
            continue
        place = (value.data_ptr(), value.dtype, value.shape, value.stride())
        names[key] = seen.setdefault(place, name)
    return names
