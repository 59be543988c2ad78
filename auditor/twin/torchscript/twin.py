"""The TorchScript twin: an interpreted graph with named parameters and values."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from auditor.artifacts.torch_shapes import Feeder, FirstLayer, discover, fit_fixed_rows, fit_rows
from auditor.twin.aten_layers import Analysis, Recorder, analyse
from auditor.twin.interface import Layer, NoTwin, Twin, TwinRun
from auditor.twin.torchscript.program import Block, Machine, Program, Step, to_compute

_WEIGHTED = {
    "conv1d": 1, "conv2d": 1, "conv3d": 1, "_convolution": 1, "convolution": 1, "linear": 1,
    "conv_transpose1d": 1, "conv_transpose2d": 1, "conv_transpose3d": 1,
    "batch_norm": 1, "layer_norm": 2, "group_norm": 2, "instance_norm": 1,
}  # fmt: skip
_PROBE_SEED = 0


class TorchScriptTwin(Twin):
    """See `auditor.twin.interface.Twin`; made by `auditor.twin.torchscript.open_twin`.

    `layers`, `tail`, `features` and `without_gradient` come from one recorded run. Nothing in an
    archive states its input shape, so that run uses the first shape the network accepts; a caller
    who knows the shape says so with `observe` and gets layer shapes for it.
    """

    def __init__(
        self,
        program: Program,
        names: Mapping[str, str],
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        self._program = program
        self._dtype = dtype
        self._device = device
        values = {key: to_compute(v, dtype, device) for key, v in program.values.items()}
        self.parameters = {name: values[key] for key, name in names.items() if key in values}
        slots = program.tensors.items()
        self._slots = [(slot, names[key]) for slot, key in slots if key in names]
        self._template: list[Any] = [None] * program.slots
        for slot, value in program.constants.items():
            self._template[slot] = to_compute(value, dtype, device)
        for slot, key in slots:
            if key not in names:
                self._template[slot] = values[key]
        self._steps = dict(_named_steps(program))
        self._names = {step.number: name for name, step in self._steps.items()}
        self._feeder = Feeder()
        self._shape: tuple[int, ...] | None = None
        self._analysis: Analysis | None = None

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

    def to(self, dtype: torch.dtype) -> TorchScriptTwin:
        """The same twin computing in `dtype` (float64 for finite differences)."""
        names = {key: name for key, name in self._key_names().items()}
        other = TorchScriptTwin(self._program, names, dtype=dtype, device=self._device)
        other._feeder, other._shape = self._feeder, self._shape
        other._analysis = copy.copy(self._analysis)
        return other

    def observe(self, shape: tuple[int, ...]) -> None:
        """Record a run on samples of `shape` (without batch): refreshes layers and batch handling.

        Raises `NoTwin` when the network does not take such samples.
        """
        rows = fit_rows(shape, self._outputs)
        rows = fit_fixed_rows(shape, self._outputs) if rows is None else rows
        if rows is None:
            self._explain(shape)
        self._record(shape, rows or 0)

    def run(
        self,
        batch: Tensor,
        *,
        wanted: Sequence[str] = (),
        parameters: Mapping[str, Tensor] | None = None,
    ) -> TwinRun:
        """Run `batch` (N, ...); see `auditor.twin.interface.Twin.run`."""
        if self._analysis is None or self._shape != tuple(batch.shape[1:]):
            self.observe(tuple(batch.shape[1:]))
        analysis = self._known()
        keys = [*wanted, *([analysis.logits] if analysis.logits else [])]
        values = self._replaced(parameters or {})
        for name in keys:
            if name.partition("@")[0] not in self._steps:
                raise KeyError(name)

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

    def _key_names(self) -> dict[str, str]:
        by_slot = dict(self._slots)
        return {
            key: by_slot[slot] for slot, key in self._program.tensors.items() if slot in by_slot
        }

    def _replaced(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        unknown = [name for name in parameters if name not in self.parameters]
        if unknown:
            raise KeyError(unknown[0])
        given = {k: v.to(self._device, self._dtype) for k, v in parameters.items()}
        return {**self.parameters, **given}

    def _environment(self, x: Tensor, values: Mapping[str, Tensor]) -> list[Any]:
        env = self._template.copy()
        for slot, name in self._slots:
            env[slot] = values[name]
        # An in-place first operator must touch neither the caller's batch nor an autograd leaf.
        env[self._program.input] = x.clone() if self._program.mutates else x
        return env

    def _execute(
        self, x: Tensor, values: Mapping[str, Tensor], wanted: Sequence[str]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        found: dict[str, Tensor] = {}
        targets = {self._steps[name.partition("@")[0]].number for name in wanted}
        names, mutates = set(wanted), self._program.mutates

        def watch(step: Step, count: int, _: tuple[Any, ...], result: Any) -> Any:
            name = self._occurrence(step, count)
            if name in names:
                found[name] = result if isinstance(result, Tensor) else result[0]
                # What is handed out must not change when a later operator writes in place.
                if mutates and isinstance(result, Tensor):
                    return result.clone()
            return result

        env = self._environment(x, values)
        watcher = watch if wanted else None
        machine = Machine(env, self._dtype, watcher, frozenset(targets))
        outputs = _flatten(machine.run(self._program.body))
        missing = names - found.keys()
        if missing:
            raise KeyError(f"{missing.pop()} (a branch this input does not take)")
        return outputs, found

    def _outputs(self, x: Tensor) -> list[Tensor]:
        x = x.to(self._device, self._dtype)
        return self._execute(x, self.parameters, ())[0]

    def _occurrence(self, step: Step, count: int) -> str:
        name = self._names[step.number]
        return f"{name}@{count}" if count else name

    def _known(self) -> Analysis:
        if self._analysis is None:
            found = discover(first_layer(self._program), self._outputs)
            if found is None:
                self._explain((3, 32, 32))
                raise NoTwin("no input shape was found that the network takes")
            self._record(*found)
        assert self._analysis is not None
        return self._analysis

    def _explain(self, shape: tuple[int, ...]) -> None:
        """Run once on `shape` and turn what is raised into one sentence."""
        try:
            self._outputs(torch.zeros(1, *shape))
        except NoTwin:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines()
            text = reason[-1][:200] if reason else type(error).__name__
            raise NoTwin(f"the network does not take samples of shape {shape}: {text}") from error

    def _record(self, shape: tuple[int, ...], rows: int) -> None:
        generator = torch.Generator().manual_seed(_PROBE_SEED)
        x = torch.rand(*((rows or 2,) if rows >= 0 else ()), *shape, generator=generator)
        x = x.to(self._device, self._dtype).requires_grad_()
        recorder = Recorder()

        def watch(step: Step, count: int, arguments: tuple[Any, ...], result: Any) -> Any:
            name = self._occurrence(step, count)
            recorder.add(name, step.kind, step.path, arguments, result)
            return result

        env = self._environment(x, self.parameters)
        with torch.enable_grad():
            machine = Machine(env, self._dtype, watch, None)
            outputs = _flatten(machine.run(self._program.body))
        names = {id(tensor): name for name, tensor in self.parameters.items()}
        analysis = analyse(recorder, outputs, names, batched=rows >= 0)
        if not outputs or not outputs[analysis.main].requires_grad:
            stops = ", ".join(recorder.blocked) or "nothing depends on the image"
            raise NoTwin(f"no gradient reaches the image from the output ({stops})")
        self._shape, self._feeder, self._analysis = shape, Feeder(rows), analysis


def _flatten(value: Any) -> list[Tensor]:
    """Tensors of nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _flatten(item)]
    return []


def all_steps(block: Block) -> Iterator[Step]:
    """Every step of `block` and of the blocks inside it, in program order."""
    for step in block.steps:
        yield step
        for inner in step.blocks:
            yield from all_steps(inner)


def _named_steps(program: Program) -> Iterator[tuple[str, Step]]:
    """Each step with a unique name: its layer's path, else ``<module path>/<operator>``."""
    used: dict[str, int] = {}
    for step in all_steps(program.body):
        op = step.kind.partition("::")[2].rstrip("_")
        base = f"{step.path}/{op}" if step.path else op
        where = _WEIGHTED.get(op)
        if where is not None and len(step.inputs) > where:
            path = program.tensors.get(step.inputs[where], "")
            if path.endswith(".weight"):
                base = path[: -len(".weight")]
        used[base] = used.get(base, 0) + 1
        yield (f"{base}#{used[base]}" if used[base] > 1 else base), step


def first_layer(program: Program) -> FirstLayer | None:
    """What the first convolution or dense layer in program order says about the input."""
    for step in all_steps(program.body):
        op = step.kind.partition("::")[2]
        if op not in {*_WEIGHTED, "t", "matmul", "addmm"} or "norm" in op:
            continue
        stored = [program.values[program.tensors[s]] for s in step.inputs if s in program.tensors]
        weight = next((w for w in stored if w.dim() >= 2), None)
        if weight is None:
            continue
        if weight.dim() == 2:
            return FirstLayer("dense", weight.shape[0 if op == "matmul" else 1])
        group = {"_convolution": 8, "convolution": 8}.get(op, 6)
        groups = program.constants.get(step.inputs[group]) if len(step.inputs) > group else 1
        many = groups if isinstance(groups, int) else 1
        return FirstLayer("conv", weight.shape[1] * many, weight.dim() - 2)
    return None
