"""A ``.pt2`` program running as torch.export loads it. Child only: imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auditor import _torch_private as private
from auditor.artifacts.exported_load import load_on_cpu
from auditor.artifacts.interface import TensorInfo
from auditor.artifacts.torchscript_runtime import TorchRuntime


class ExportedRuntime(TorchRuntime):
    """``torch.export.load(...).module()`` on the CPU."""

    def __init__(self, path: Path, inputs: Sequence[TensorInfo], *, threads: int = 1) -> None:
        program = load_on_cpu(path)
        super().__init__(inputs, threads=threads)
        self._module = private.exported_module(program)

    def call(self, x: Tensor) -> Any:
        """The program on exactly `x`."""
        return self._module(x)

    def rows_for(self, shape: tuple[int, ...], dtype: torch.dtype) -> int | None:
        """From the declared shape where it fits (a static batch is kept), else by trying."""
        static = self.input.shape or ()
        if len(static) == len(shape) + 1 and _fits(static[1:], shape):
            return static[0] if isinstance(static[0], int) else 0
        if len(static) == len(shape) and _fits(static, shape):
            return -1
        return super().rows_for(shape, dtype)


def _fits(static: Sequence[int | str | None], shape: Sequence[int]) -> bool:
    return all(not isinstance(a, int) or a == b for a, b in zip(static, shape, strict=True))
