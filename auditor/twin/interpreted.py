"""What the twins of both torch formats share: a recorded run, layer names, batch handling."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from auditor.artifacts.torch_shapes import Feeder, fit_fixed_rows, fit_rows
from auditor.twin.aten_layers import Analysis, analyse
from auditor.twin.aten_record import Recorder
from auditor.twin.interface import Layer, NoTwin, Twin, TwinRun

WEIGHTED = {
    "conv1d": 1, "conv2d": 1, "conv3d": 1, "_convolution": 1, "convolution": 1, "linear": 1,
    "conv_transpose1d": 1, "conv_transpose2d": 1, "conv_transpose3d": 1,
    "batch_norm": 1, "layer_norm": 2, "group_norm": 2, "instance_norm": 1,
}  # fmt: skip
"""Operators named after their layer, and which argument is the weight."""

_SEED = 0
T = TypeVar("T")


class InterpretedTwin(Twin):
    """A twin that runs its operators one by one in eager torch.

    `layers`, `tail`, `features` and `without_gradient` come from one recorded run on the first
    input shape that the network takes, or the one given to `observe`.
    """

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        self._dtype = dtype
        self._device = device
        self._feeder = Feeder()
        self._shape: tuple[int, ...] | None = None
        self._analysis: Analysis | None = None

    reduced_precision: bool = False
    """The file computes in half precision; the twin in `dtype`, so they agree less closely."""

    # What a format supplies ----------------------------------------------------------------

    @abstractmethod
    def to(self, dtype: torch.dtype) -> Self:
        """The same twin computing in `dtype` (float64 for finite differences)."""

    @abstractmethod
    def _has(self, name: str) -> bool:
        """True when a value of this name exists in the program."""

    @abstractmethod
    def _execute(
        self, x: Tensor, values: Mapping[str, Tensor], wanted: Sequence[str]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Outputs and wanted values of one run on exactly `x`."""

    @abstractmethod
    def _trace(self, x: Tensor, recorder: Recorder) -> list[Tensor]:
        """Outputs of one run on `x` with every operator recorded."""

    @abstractmethod
    def _discover(self) -> tuple[tuple[int, ...], int]:
        """(per-sample shape, `Feeder.rows`) to record with. Raises `NoTwin`."""

    def _rows(self, shape: tuple[int, ...]) -> int | None:
        """`Feeder.rows` for samples of `shape`, or None when the network refuses them."""
        rows = fit_rows(shape, self._outputs)
        return fit_fixed_rows(shape, self._outputs) if rows is None else rows

    # What the interface promises -----------------------------------------------------------

    @property
    def layers(self) -> Sequence[Layer]:  # type: ignore[override]
        """Values that can be probed, in execution order."""
        return self._known().layers

    @property
    def tail(self) -> str:  # type: ignore[override]
        """``logits``, ``softmax``, ``log-softmax``, ``sigmoid`` or ``relu``."""
        return self._known().tail

    @property
    def features(self) -> str | None:  # type: ignore[override]
        """Name of the value that feeds `head`."""
        return self._known().features

    @property
    def head(self) -> Layer | None:
        """The layer that gives the class scores."""
        return self._known().head

    @property
    def without_gradient(self) -> Sequence[str]:  # type: ignore[override]
        """Operators in the recorded run that stop or flatten the gradient."""
        return self._known().without_gradient

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Per-sample input shape of the recorded run."""
        self._known()
        assert self._shape is not None
        return self._shape

    def observe(self, shape: tuple[int, ...]) -> None:
        """Record a run on samples of `shape` (without batch): refreshes layers and batch handling.

        Raises `NoTwin` when the network does not take such samples.
        """
        rows = self._rows(shape)
        if rows is None:
            raise NoTwin(self._refusal(shape))
        self._record(shape, rows)

    def run(
        self,
        batch: Tensor,
        *,
        wanted: Sequence[str] = (),
        parameters: Mapping[str, Tensor] | None = None,
    ) -> TwinRun:
        """Run `batch` (N, ...); see `auditor.twin.interface.Twin.run`."""
        values = self._replaced(parameters or {})
        for name in wanted:
            if not self._has(name):
                raise KeyError(name)
        if self._analysis is None or self._shape != tuple(batch.shape[1:]):
            self.observe(tuple(batch.shape[1:]))
        analysis = self._known()
        keys = [*wanted, *([analysis.logits] if analysis.logits else [])]

        def call(x: Tensor) -> list[Tensor]:
            outputs, found = self._execute(x, values, keys)
            return [*outputs, *(found[key] for key in keys)]

        results = self._feeder.run(batch.to(self._device, self._dtype), call)
        outputs = results[: len(results) - len(keys)]
        found = dict(zip(keys, results[len(outputs) :], strict=True))
        logits = found[analysis.logits] if analysis.logits else outputs[analysis.main]
        logits = logits.flatten(1) if logits.dim() > 2 else logits
        return TwinRun(outputs, logits, {name: found[name] for name in wanted})

    # How it is done ------------------------------------------------------------------------

    def _copy_state_to(self, other: InterpretedTwin) -> None:
        other._feeder, other._shape = self._feeder, self._shape
        other._analysis = copy.copy(self._analysis)

    def _replaced(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        unknown = [name for name in parameters if name not in self.parameters]
        if unknown:
            raise KeyError(unknown[0])
        given = {k: v.to(self._device, self._dtype) for k, v in parameters.items()}
        return {**self.parameters, **given}

    def _outputs(self, x: Tensor) -> list[Tensor]:
        return self._execute(x.to(self._device, self._dtype), self.parameters, ())[0]

    def _known(self) -> Analysis:
        if self._analysis is None:
            self._record(*self._discover())
        assert self._analysis is not None
        return self._analysis

    def _refusal(self, shape: tuple[int, ...]) -> str:
        """One sentence on why a run on samples of `shape` fails; `NoTwin` passes through."""
        try:
            self._outputs(torch.zeros(1, *shape))
        except NoTwin:
            raise
        except Exception as error:
            lines = str(error).strip().splitlines()
            reason = lines[-1][:200] if lines else type(error).__name__
            return f"the network does not take samples of shape {shape}: {reason}"
        return f"the network does not take samples of shape {shape} one by one or in batches"

    def _record(self, shape: tuple[int, ...], rows: int) -> None:
        generator = torch.Generator().manual_seed(_SEED)
        x = torch.rand(*((rows or 2,) if rows >= 0 else ()), *shape, generator=generator)
        x = x.to(self._device, self._dtype).requires_grad_()
        recorder = Recorder()
        with torch.enable_grad():
            outputs = self._trace(x, recorder)
        names = {id(tensor): name for name, tensor in self.parameters.items()}
        if not outputs:
            raise NoTwin("the network returns no tensor")
        analysis = analyse(recorder, outputs, names, batched=rows >= 0)
        if not outputs[analysis.main].requires_grad:
            stops = ", ".join(recorder.blocked) or "nothing depends on the image"
            raise NoTwin(f"no gradient reaches the image from the output ({stops})")
        self._shape, self._feeder, self._analysis = shape, Feeder(rows), analysis


def flatten(value: Any) -> list[Tensor]:
    """Tensors of nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in flatten(item)]
    return []


def numbered(items: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """(unique name, item): the second ``relu`` is called ``relu#2``."""
    used: dict[str, int] = {}
    for base, item in items:
        used[base] = used.get(base, 0) + 1
        yield (f"{base}#{used[base]}" if used[base] > 1 else base), item


def value_name(op: str, path: str, weight: str) -> str:
    """``features.0`` for the layer with weight ``features.0.weight``, else path and operator."""
    if weight.endswith(".weight"):
        return weight.removesuffix(".weight")
    return f"{path}/{op}" if path else op
