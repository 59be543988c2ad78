"""Runs a compiled TorchScript program in eager torch, one operator at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from auditor.twin.torchscript.program import Block, Step

_FLOAT_CODES = {5: torch.float16, 6: torch.float32, 7: torch.float64, 15: torch.bfloat16}
_CODES = {dtype: code for code, dtype in _FLOAT_CODES.items()}
"""Numbers the archive uses for floating dtypes; all become the compute dtype."""


def to_compute(value: Any, dtype: torch.dtype, device: str) -> Any:
    """Tensors inside `value` on `device`, floating ones as `dtype`, asking for no gradient."""
    if isinstance(value, Tensor):
        value = value.detach()
        return value.to(device, dtype) if value.is_floating_point() else value.to(device)
    if isinstance(value, list | tuple):
        return type(value)(to_compute(v, dtype, device) for v in value)
    if isinstance(value, Mapping):
        return {k: to_compute(v, dtype, device) for k, v in value.items()}
    return value


class Machine:
    """Runs a `Program`: `watch(step, occurrence, arguments, result)` may replace the result."""

    def __init__(
        self,
        env: list[Any],
        dtype: torch.dtype,
        watch: Callable[[Step, int, tuple[Any, ...], Any], Any] | None,
        watched: frozenset[int] | None,
    ) -> None:
        self.env = env
        self.code = _CODES[dtype]
        self.watch = watch
        self.watched = watched
        self.seen: dict[int, int] = {}

    def run(self, block: Block) -> list[Any]:
        """Run the steps of `block` and return its results."""
        env = self.env
        for step in block.steps:
            if step.blocks:
                self.control(step)
            else:
                self.call(step)
            for slot in step.drop:
                env[slot] = None
        return [env[slot] for slot in block.results]

    def call(self, step: Step) -> None:
        """Run one operator and keep its results."""
        env = self.env
        arguments = tuple([env[slot] for slot in step.inputs])
        if step.dtypes:
            arguments = tuple(
                self.code if i in step.dtypes and a in _FLOAT_CODES else a
                for i, a in enumerate(arguments)
            )
        if step.keywords:
            named = {
                name: self.code if name == "dtype" and env[slot] in _FLOAT_CODES else env[slot]
                for name, slot in step.keywords
            }
            result = step.call(*arguments, **named)  # type: ignore[misc]
        else:
            result = step.call(*arguments)  # type: ignore[misc]
        if self.watch is not None and (self.watched is None or step.number in self.watched):
            count = self.seen[step.number] = self.seen.get(step.number, -1) + 1
            result = self.watch(step, count, arguments, result)
        if len(step.outputs) == 1 and step.kind not in ("prim::ListUnpack", "prim::TupleUnpack"):
            env[step.outputs[0]] = result
        elif step.outputs:
            for slot, item in zip(step.outputs, result, strict=True):
                env[slot] = item

    def control(self, step: Step) -> None:
        """Run an ``if`` or a loop, whose blocks are run as they are chosen."""
        env = self.env
        if step.kind == "prim::If":
            chosen = step.blocks[0 if env[step.inputs[0]] else 1]
            results = self.run(chosen)
        else:
            trips, going, *results = [env[slot] for slot in step.inputs]
            block, index = step.blocks[0], 0
            while going and index < trips:
                for slot, value in zip(block.parameters, [index, *results], strict=True):
                    env[slot] = value
                going, *results = self.run(block)
                index += 1
        for slot, value in zip(step.outputs, results, strict=True):
            env[slot] = value
