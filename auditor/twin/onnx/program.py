"""A compiled graph: steps over numbered slots, and the loop that executes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from auditor.twin.onnx.registry import Node, Operator

MAX_TRIPS = 10_000
"""A Loop may name any trip count; more than this is refused, not executed."""

Slots = list[Any]


@dataclass(slots=True)
class Step:
    """One operator call: `inputs` and `outputs` are slots, -1 where absent.

    `data`: depends on the image's values; `shape`: on its shape; `roots`: on these parameters.
    `release` lists slots whose last reader this step is.
    """

    function: Operator | None
    node: Node
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    data: bool = False
    shape: bool = False
    roots: frozenset[str] = frozenset()
    release: tuple[int, ...] = ()
    blocks: tuple[Block, ...] = ()

    def reads(self) -> set[int]:
        """Every slot this step reads, those of its subgraphs included."""
        found = {slot for slot in self.inputs if slot >= 0}
        for block in self.blocks:
            found.update(block.reads())
        return found


@dataclass(slots=True)
class Block:
    """A subgraph (branch or loop body) over the same slots as its surroundings."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    steps: list[Step] = field(default_factory=list)

    def reads(self) -> set[int]:
        """Every slot the block reads."""
        return set(self.outputs).union(*(step.reads() for step in self.steps))


def execute(steps: Iterable[Step], slots: Slots) -> None:
    """Run `steps` in order, in place on `slots`."""
    for step in steps:
        inputs = [slots[i] if i >= 0 else None for i in step.inputs]
        if step.function is None:
            result: Any = _control(step, inputs, slots)
        else:
            result = step.function(step.node, *inputs)
        if isinstance(result, tuple):
            for slot, value in zip(step.outputs, result, strict=False):
                if slot >= 0:
                    slots[slot] = value
        else:
            slots[step.outputs[0]] = result
        for slot in step.release:
            slots[slot] = None


def plan_releases(steps: Sequence[Step], keep: set[int]) -> None:
    """Note on each step which slots nobody reads afterwards, so that memory is freed early."""
    seen = set(keep)
    for step in reversed(steps):
        touched = step.reads() | {slot for slot in step.outputs if slot >= 0}
        step.release = tuple(sorted(touched - seen))
        seen |= touched


def _control(step: Step, inputs: list[Any], slots: Slots) -> tuple[Any, ...]:
    if step.node.op == "If":
        block = step.blocks[0 if bool(inputs[0].reshape(-1)[0]) else 1]
        return _run_block(block, (), slots)
    return _loop(step, inputs, slots)


def _run_block(block: Block, arguments: Sequence[Any], slots: Slots) -> tuple[Any, ...]:
    for slot, value in zip(block.inputs, arguments, strict=False):
        slots[slot] = value
    execute(block.steps, slots)
    return tuple(slots[i] for i in block.outputs)


def _loop(step: Step, inputs: list[Any], slots: Slots) -> tuple[Any, ...]:
    """ONNX Loop: carried values first, then one stacked value per scan output."""
    body = step.blocks[0]
    limit, condition, *carried = inputs
    trips = None if limit is None else int(limit.reshape(-1)[0])
    going = True if condition is None else bool(condition.reshape(-1)[0])
    scans: list[list[Tensor]] = [[] for _ in range(len(body.outputs) - 1 - len(carried))]
    trip = 0
    while going and (trips is None or trip < trips):
        if trip >= MAX_TRIPS:
            raise NotImplementedError(f"Loop of more than {MAX_TRIPS:,} trips")
        arguments = (torch.tensor(trip), torch.tensor(going), *carried)
        flag, *results = _run_block(body, arguments, slots)
        going = bool(flag.reshape(-1)[0])
        carried = results[: len(carried)]
        for scan, value in zip(scans, results[len(carried) :], strict=True):
            scan.append(value)
        trip += 1
    stacked = [torch.stack(scan) if scan else torch.zeros(0) for scan in scans]
    return (*carried, *stacked)


def by_shape(steps: Sequence[Step]) -> set[int]:
    """Slots that depend on the shape of the image and on nothing else about it."""
    found = (step for step in steps if step.shape and not step.data and not step.roots)
    return {slot for step in found for slot in step.outputs}


def keeping(steps: Sequence[Step], keep: set[int]) -> list[Step]:
    """`steps` that do not release the slots in `keep`."""
    changed = []
    for step in steps:
        if keep.intersection(step.release):
            copy = Step(step.function, step.node, step.inputs, step.outputs, blocks=step.blocks)
            copy.release = tuple(slot for slot in step.release if slot not in keep)
            step = copy
        changed.append(step)
    return changed


def constants(template: Sequence[Any]) -> set[int]:
    """Slots that hold a value before anything ran."""
    return {slot for slot, value in enumerate(template) if value is not None}
