"""Does a Loop end before its trip limit? Exported while-loops carry a limit of 2^63-1 and do."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from auditor.checks.file.onnx_fold import fold
from auditor.checks.file.onnx_graph import Graph, Node, Program
from auditor.checks.file.onnx_probe import too_much
from auditor.checks.file.onnx_slice import slice_model

STEPS = 3000
SECONDS = 1.0


def endless(program: Program, node: Node, body: Graph, limit: float) -> str | None:
    """Why `node` runs to its `limit`; None when its own data decide (or it cannot be told)."""
    condition = body.outputs[0]
    for _ in range(16):
        made = program.producer.get(condition)
        if made is None or made.op != "Identity":
            break
        condition = made.inputs[0]
    if len(body.inputs) > 1 and condition == body.inputs[1]:
        first = fold(program, node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else True
        stops = first is not None and not np.all(first)
        return None if stops else "its condition never changes"
    constant = fold(program, condition)
    if constant is not None:
        return "its condition is always true" if np.all(constant) else None
    return _simulate(program, node, body, condition, limit)


def _simulate(
    program: Program, node: Node, body: Graph, condition: str, limit: float
) -> str | None:
    """Follow the small part of the state that the condition reads, from its constant start."""
    free = frozenset(body.inputs)
    needed = _state(program, body, condition)
    if needed is None:
        return None
    state: dict[str, Any] = {}
    for position in needed:
        value = fold(program, node.inputs[position])
        if value is None or value.size > 4096:
            return None
        state[body.inputs[position]] = value
    outputs = tuple(body.outputs[position - 1] for position in needed)
    proto = slice_model(program, (condition, *outputs), free)
    if proto is None or too_much(proto):
        return None
    names = {value.name for value in proto.graph.input}
    if names - set(state) - set(body.inputs[:2]):
        return None
    from onnx.reference import ReferenceEvaluator  # only suspicious loops pay for it

    start, step = time.monotonic(), 0
    try:
        run = ReferenceEvaluator(proto)
        while step < min(STEPS, limit) and time.monotonic() - start < SECONDS:
            given = {body.inputs[0]: np.int64(step), body.inputs[1]: np.bool_(True), **state}
            feed = {name: np.asarray(given[name]) for name in names}
            with np.errstate(all="ignore"):
                on, *rest = run.run(None, feed)
            if not np.all(on):
                return None
            state = {body.inputs[p]: value for p, value in zip(needed, rest, strict=True)}
            step += 1
    except Exception:  # the evaluator meets hostile bodies: then nothing is known
        return None
    return f"after {step:,} steps its condition is still true"


def _state(program: Program, body: Graph, condition: str) -> list[int] | None:
    """Positions of the carried inputs that decide `condition`; None when outer values do too."""
    wanted: list[int] = []
    stack, seen = [condition], set[str]()
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in body.inputs:
            position = body.inputs.index(name)
            if position >= 2 and position not in wanted:
                wanted.append(position)
                stack.append(body.outputs[position - 1])
            continue
        if name in program.inputs:
            return None
        node = program.producer.get(name)
        if node is not None:
            stack.extend(node.data)
    return sorted(wanted)
