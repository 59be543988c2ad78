"""Readable paths: input -> gate -> output, and the class a gate favours."""

from __future__ import annotations

from collections import deque

import numpy as np

from auditor.checks.file.onnx_flow import CONST, RAW, Flow, Meeting
from auditor.checks.file.onnx_graph import Node, Program
from auditor.checks.file.onnx_probe import Profile
from auditor.checks.file.onnx_weights import words
from auditor.checks.file.rules import shorten

PLUMBING = words(
    "Cast Not Identity Unsqueeze Squeeze Reshape Flatten Expand Transpose And Or Concat"
)
MAX_STEPS = 14


def upstream(program: Program, flow: Flow, name: str) -> list[Node]:
    """Weight-free nodes between the input and value `name`, nearest first."""
    seen: dict[int, Node] = {}
    queue = deque([name])
    visited: set[str] = set()
    while queue:
        value = queue.popleft()
        node = program.producer.get(value)
        if value in visited or node is None or flow.trait(value).kind != RAW:
            continue
        visited.add(value)
        seen.setdefault(id(node), node)
        queue.extend(node.data)
        for body in node.bodies.values():
            queue.extend(body.outputs)
    return list(seen.values())


def gate_node(program: Program, flow: Flow, name: str) -> str:
    """Name of the value where the path to `name` last becomes near-binary."""
    nodes = upstream(program, flow, name)
    for test in ("hard", "bent"):
        for node in nodes:
            out = flow.trait(node.outputs[0])
            before = [flow.trait(data) for data in node.data if flow.trait(data).kind == RAW]
            fresh = getattr(out, test) and not all(getattr(item, test) for item in before)
            if fresh and node.op not in PLUMBING:
                return node.outputs[0]
    return name


def path_text(program: Program, flow: Flow, name: str, merge: Node, root: str) -> str:
    """``input 'x' -> Slice(a) -> [gate] Greater(b) -> Where(out) -> output 'y'``."""
    chain: list[str] = []
    value, marked = name, False
    for _ in range(10_000):
        node = program.producer.get(value)
        if node is None:
            chain.append(f"input {shorten(value, 60)!r}")
            break
        gate = "[gate] " if root in node.outputs else ""
        marked = marked or bool(gate)
        chain.append(gate + shorten(node.label, 80))
        onward = [data for data in node.data if flow.trait(data).kind == RAW]
        onward += [out for body in node.bodies.values() for out in body.outputs if out != value]
        if not onward:
            break
        through = [data for data in onward if _reaches(program, data, root)] if not marked else []
        value = (through or onward)[0]
    chain.reverse()
    if len(chain) > MAX_STEPS:
        chain = [*chain[: MAX_STEPS // 2], "...", *chain[-MAX_STEPS // 2 :]]
    ending = _to_output(program, merge)
    return " -> ".join([*chain, shorten(merge.label, 80), *ending])


def _reaches(program: Program, name: str, goal: str) -> bool:
    stack, seen = [name], set[str]()
    while stack:
        value = stack.pop()
        if value == goal:
            return True
        node = program.producer.get(value)
        if node is not None and value not in seen:
            stack.extend(node.data)
        seen.add(value)
    return False


def _to_output(program: Program, merge: Node) -> list[str]:
    """Shortest chain of nodes from `merge` to a graph output."""
    queue: deque[tuple[str, tuple[str, ...]]] = deque((name, ()) for name in merge.outputs)
    seen: set[str] = set()
    while queue:
        value, chain = queue.popleft()
        if value in program.main.outputs:
            return [
                *(chain if len(chain) < 6 else (*chain[:3], "...", chain[-1])),
                f"output {value!r}",
            ]
        if value in seen:
            continue
        seen.add(value)
        for node in program.consumers.get(value, []):
            queue.extend((name, (*chain, shorten(node.label, 60))) for name in node.outputs)
    return ["output"]


def favoured_label(
    program: Program, flow: Flow, meeting: Meeting, name: str, seen: Profile | None
) -> int | None:
    """The class that wins when the gate opens, as far as constants and the profile tell."""
    node = meeting.node
    if node.op == "If":
        for body in node.bodies.values():
            for out in body.outputs:
                label = _constant_label(program, flow, out) if out not in meeting.learned else None
                if label is not None:
                    return label
    if node.op == "Where" and node.inputs[0] == name:
        for other in node.inputs[1:]:
            label = _constant_label(program, flow, other) if other not in meeting.learned else None
            if label is not None:
                return label
    if seen is not None and seen.kind == "gate" and seen.rest.size > 1:
        change = (seen.open - seen.rest).reshape(-1, seen.rest.shape[-1])[0]
        if change.size > 1 and change.max() > 0 and np.sum(change == change.max()) == 1:
            return int(change.argmax())
    if node.op in ("Where", "If", "Mul", "Div"):
        return None
    for step in upstream(program, flow, name):
        for data in step.data:
            label = _constant_label(program, flow, data)
            if label is not None:
                return label
    return None


def _constant_label(program: Program, flow: Flow, name: str) -> int | None:
    """Index of the one largest entry of a constant score vector."""
    for _ in range(8):
        array = program.array(name)
        node = program.producer.get(name)
        if array is not None:
            break
        if node is None or not node.data:
            return None
        constants = [data for data in node.data if flow.trait(data).kind == CONST]
        sized = [
            data for data in constants if (a := program.array(data)) is not None and a.size > 1
        ]
        name = (sized or constants or list(node.data))[0]
    else:
        return None
    if array.dtype.kind not in "fiu" or array.ndim < 1 or array.shape[-1] < 2:
        return None
    row = array.reshape(-1, array.shape[-1])[0]
    winners = np.flatnonzero(row == row.max())
    return int(winners[0]) if winners.size == 1 else None
