"""The TorchScript twin: an interpreted graph with named parameters and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from auditor.artifacts.torch_shapes import FirstLayer, discover
from auditor.twin.aten_record import Recorder
from auditor.twin.interface import NoTwin
from auditor.twin.interpreted import WEIGHTED, InterpretedTwin, flatten, numbered, value_name
from auditor.twin.torchscript.machine import Machine, to_compute
from auditor.twin.torchscript.program import Block, Program, Step


class TorchScriptTwin(InterpretedTwin):
    """See `auditor.twin.interface.Twin`; made by `auditor.twin.torchscript.open_twin`.

    Nothing in an archive states its input shape, so the recorded run uses the first shape the
    network accepts; a caller who knows the shape says so with `observe`, or just runs a batch.
    """

    def __init__(
        self,
        program: Program,
        names: Mapping[str, str],
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        super().__init__(dtype, device)
        self._program = program
        self.reduced_precision = any(v.dtype.itemsize < 4 for v in program.values.values())
        self._keys = names
        values = {key: to_compute(v, dtype, device) for key, v in program.values.items()}
        self.parameters: dict[str, Tensor] = {}
        for key, name in names.items():  # tied tensors: one name, one tensor
            self.parameters.setdefault(name, values[key])
        slots = program.tensors.items()
        self._slots = [(slot, names[key]) for slot, key in slots if key in names]
        self._template: list[Any] = [None] * program.slots
        for slot, value in program.constants.items():
            self._template[slot] = to_compute(value, dtype, device)
        for slot, key in slots:
            if key not in names:
                self._template[slot] = values[key]
        self._steps = dict(numbered(_base_names(program)))
        self._names = {step.number: name for name, step in self._steps.items()}

    def to(self, dtype: torch.dtype) -> TorchScriptTwin:
        """The same twin computing in `dtype` (float64 for finite differences)."""
        other = TorchScriptTwin(self._program, self._keys, dtype=dtype, device=self._device)
        self._copy_state_to(other)
        return other

    def _has(self, name: str) -> bool:
        return name.partition("@")[0] in self._steps

    def _discover(self) -> tuple[tuple[int, ...], int]:
        found = discover(first_layer(self._program), self._outputs)
        if found is None:
            raise NoTwin(f"no input shape was found; {self._refusal((3, 32, 32))}")
        return found

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
        machine = Machine(env, self._dtype, watch if wanted else None, frozenset(targets))
        outputs = flatten(machine.run(self._program.body))
        missing = names - found.keys()
        if missing:
            raise KeyError(f"{missing.pop()} (in a branch this input does not take)")
        return outputs, found

    def _trace(self, x: Tensor, recorder: Recorder) -> list[Tensor]:
        def watch(step: Step, count: int, arguments: tuple[Any, ...], result: Any) -> Any:
            name = self._occurrence(step, count)
            recorder.add(name, step.kind, step.path, arguments, result)
            return result

        env = self._environment(x, self.parameters)
        return flatten(Machine(env, self._dtype, watch, None).run(self._program.body))

    def _occurrence(self, step: Step, count: int) -> str:
        name = self._names[step.number]
        return f"{name}@{count}" if count else name


def all_steps(block: Block) -> Iterator[Step]:
    """Every step of `block` and of the blocks inside it, in program order."""
    for step in block.steps:
        yield step
        for inner in step.blocks:
            yield from all_steps(inner)


def _base_names(program: Program) -> Iterator[tuple[str, Step]]:
    for step in all_steps(program.body):
        op = step.kind.partition("::")[2].rstrip("_")
        where = WEIGHTED.get(op, len(step.inputs))
        slot = step.inputs[where] if where < len(step.inputs) else -1
        yield value_name(op, step.path, program.tensors.get(slot, "")), step


def first_layer(program: Program) -> FirstLayer | None:
    """What the first convolution or dense layer in program order says about the input."""
    for step in all_steps(program.body):
        op = step.kind.partition("::")[2]
        if op not in {*WEIGHTED, "t", "matmul", "addmm"} or "norm" in op:
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
