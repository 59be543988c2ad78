"""A TorchScript archive running natively under torch.jit. Child only: imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auditor import _torch_private as private
from auditor.artifacts.interface import Array, Runtime, TensorInfo
from auditor.artifacts.torch_shapes import Feeder, discover, fit_fixed_rows, fit_rows
from auditor.errors import UnsupportedArtifact
from auditor.twin.interface import NoTwin
from auditor.twin.interpreted import flatten
from auditor.twin.torchscript.program import compile_program
from auditor.twin.torchscript.twin import first_layer


class TorchRuntime(Runtime):
    """A torch callable as a runtime: batches of any size, outputs flattened to arrays."""

    def __init__(self, inputs: Sequence[TensorInfo], *, threads: int) -> None:
        torch.set_num_threads(threads)
        self._inputs = tuple(inputs)
        self._feeder: Feeder | None = None
        self._shape: tuple[int, ...] | None = None

    def call(self, x: Tensor) -> Any:
        """The model on exactly this tensor."""
        raise NotImplementedError

    def rows_for(self, shape: tuple[int, ...], dtype: torch.dtype) -> int | None:
        """`Feeder.rows` for samples of `shape`, found by trying; None when nothing works."""
        rows = fit_rows(shape, self._tensors, dtype)
        return fit_fixed_rows(shape, self._tensors, dtype) if rows is None else rows

    @property
    def input(self) -> TensorInfo:
        """The one image input; shapes are what the file tells, often only the channels."""
        tensors = [info for info in self._inputs if info.dtype.startswith(("float", "bfloat"))]
        if len(self._inputs) != 1 or len(tensors) != 1:
            names = ", ".join(f"{i.name}: {i.dtype}" for i in self._inputs) or "none"
            raise UnsupportedArtifact(
                f"the model does not take exactly one image tensor (inputs: {names})"
            )
        return tensors[0]

    def run(self, batch: Array) -> tuple[Array, ...]:
        """Run on `batch` (N, ...), cast to the dtype the weights have; half outputs as float32."""
        dtype = getattr(torch, self.input.dtype)
        x = torch.from_numpy(np.ascontiguousarray(batch)).to(dtype)
        shape = tuple(x.shape[1:])
        if self._feeder is None or self._shape != shape:
            # Nothing works (None): let the model say why, on the batch as it came.
            self._feeder, self._shape = Feeder(self.rows_for(shape, dtype) or 0), shape
        with torch.no_grad():
            return tuple(_array(t) for t in self._feeder.run(x, self._tensors))

    def _tensors(self, x: Tensor) -> list[Tensor]:
        return flatten(self.call(x))


class TorchScriptRuntime(TorchRuntime):
    """``torch.jit.load`` on the CPU in evaluation mode, GPU devices in the code replaced."""

    def __init__(self, path: Path, inputs: Sequence[TensorInfo], *, threads: int = 1) -> None:
        module = private.load_script(path)
        private.replace_devices(module)
        super().__init__(_required(module, inputs), threads=threads)
        self._module = module
        self._image: TensorInfo | None = None
        # A trace made in training mode writes its statistics on every call; put them back, so
        # that one prediction does not depend on the ones before.
        self._buffers = [(b, b.clone(), b._version) for b in module.buffers()]

    @property
    def input(self) -> TensorInfo:
        """The image input; an archive states no shape, so it is found by trying (once).

        Sizes the network is free in are None; the whole shape is None when nothing fits.
        """
        if self._image is None:
            image = super().input
            self._image = replace(image, shape=self._accepted(image))
        return self._image

    def _accepted(self, image: TensorInfo) -> tuple[int | str | None, ...] | None:
        dtype = getattr(torch, image.dtype)
        try:
            first = first_layer(compile_program(self._module))
        except NoTwin:
            first = None
        found = discover(first, lambda x: self._tensors(x.to(dtype)))
        if found is None:
            return None
        shape, rows = found
        given = self._gives(shape, rows, dtype)
        if given is None:  # a larger fixed batch
            return ("N", *shape)
        free: list[int | None] = list(shape)
        for axis in range(len(shape)):  # a size is free when another one is taken as well
            other = (*shape[:axis], shape[axis] + 32, *shape[axis + 1 :])
            if self._gives(other, rows, dtype) == given:
                free[axis] = None
        if len(shape) == 3 and None not in free:  # height and width may only change together
            other = (shape[0], shape[1] + 32, shape[2] + 32)
            free = [shape[0], None, None] if self._gives(other, rows, dtype) == given else free
        return ("N", *free)

    def _gives(self, shape: tuple[int, ...], rows: int, dtype: torch.dtype) -> list[Any] | None:
        """Output shapes for samples of `shape`; None when they are not taken in the same way."""
        if fit_rows(shape, self._tensors, dtype) != rows:
            return None
        x = torch.zeros(*((rows or 2,) if rows >= 0 else ()), *shape, dtype=dtype)
        with torch.no_grad():
            return [t.shape for t in self._tensors(x)]

    def call(self, x: Tensor) -> Any:
        """The loaded module's forward, without the profiling executor's slow first runs."""
        with private.torchscript_warnings_ignored(), private.plain_execution():
            result = self._module(x)
        for index, (buffer, saved, version) in enumerate(self._buffers):
            if buffer._version != version:
                buffer.copy_(saved)
                self._buffers[index] = (buffer, saved, buffer._version)
        return result


def _required(module: Any, described: Sequence[TensorInfo]) -> list[TensorInfo]:
    """Inputs without a default as torch sees them, with shapes and dtypes from the description."""
    known = {info.name: info for info in described}
    found = []
    for name, kind, has_default in private.forward_arguments(module):
        if not has_default:
            dtype = "float32" if kind == "Tensor" else kind
            found.append(known.get(name, TensorInfo(name, dtype, None)))
    return found


def _array(value: Tensor) -> Array:
    value = value.detach()
    if value.dtype in (torch.float16, torch.bfloat16):
        value = value.float()
    return np.asarray(value.numpy())
