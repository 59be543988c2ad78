"""Paths: input -> gate -> output in words, the layers still to come, the class a gate favours."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from auditor.checks.file.onnx_flow import CONST, RAW, Flow, Meeting
from auditor.checks.file.onnx_fold import fold
from auditor.checks.file.onnx_graph import Graph, Node, Program, captured
from auditor.checks.file.onnx_probe import Profile
from auditor.checks.file.onnx_weights import output_units, words
from auditor.checks.file.rules import shorten

PLUMBING = words(
    "Cast Not Identity Unsqueeze Squeeze Reshape Flatten Expand Transpose And Or Concat"
)
MAX_STEPS = 14


def layers_after(program: Program, flow: Flow) -> dict[str, int]:
    """Fewest learned layers from each value to an output of the model."""
    far = 1 << 20
    distance = {name: 0 for name in program.main.outputs if name}

    def visit(graph: Graph) -> None:
        for node in reversed(graph.nodes):
            best = min((distance.get(name, far) for name in node.outputs), default=far)
            for body in node.bodies.values():
                for name in body.outputs:
                    distance[name] = min(distance.get(name, far), best)
                visit(body)
            cost = best + (id(node) in flow.layers)
            for name in node.data:
                distance[name] = min(distance.get(name, far), cost)

    visit(program.main)
    return distance


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


def path_steps(program: Program, flow: Flow, name: str, merge: Node, root: str) -> tuple[str, ...]:
    """``input 'x'``, ``Slice(a)``, ``[gate] Greater(b)``, ``Where(out)``, ``output 'y'``."""
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
        onward += _closest(flow, node) if not onward else []
        onward += [out for body in node.bodies.values() for out in body.outputs if out != value]
        if not onward:
            break
        through = [data for data in onward if _reaches(program, data, root)] if not marked else []
        value = (through or onward)[0]
    chain.reverse()
    if len(chain) > MAX_STEPS:
        chain = [*chain[: MAX_STEPS // 2], "...", *chain[-MAX_STEPS // 2 :]]
    ending = _to_output(program, merge)
    return (*chain, shorten(merge.label, 80), *ending)


def _closest(flow: Flow, node: Node) -> list[str]:
    """The operand of `node` with the fewest learned layers behind it."""
    moving = [data for data in node.data if flow.trait(data).kind != CONST]
    return sorted(moving, key=lambda data: flow.trait(data).least)[:1]


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


def class_count(program: Program, flow: Flow) -> int:
    """Scores of the first output: from its shape, else from the last learned layer; 0 unknown."""
    output = program.model.graph.outputs[0]
    if output.shape is not None and len(output.shape) and isinstance(output.shape[-1], int):
        return int(output.shape[-1])
    for node in reversed(list(program.main.walk())):
        if id(node) in flow.layers:
            sizes = [output_units(program, node, name) for name in node.data[1:2]]
            return max(sizes, default=0)
    return 0


def favoured_label(
    program: Program, flow: Flow, meeting: Meeting, name: str, seen: Profile | None, after: int
) -> int | None:
    """The class that wins when the gate opens, as far as the graph's constants tell.

    None when layers follow the meeting, or when several constants disagree.
    """
    classes = class_count(program, flow)
    if after > 0 or classes < 2:
        return None
    if seen is not None and seen.kind == "gate" and seen.rest.shape[-1:] == (classes,):
        change = (seen.open - seen.rest).reshape(-1, classes)[0]
        for values in (change, -change):
            if values.max() > 0 and np.sum(values == values.max()) == 1:
                return int(values.argmax())
    if meeting.node.op in ("Mul", "Div", "Pad"):
        return None
    for names in _nearby(program, flow, meeting, name):
        labels = {_label_of(program, item, classes) for item in names} - {None}
        if len(labels) == 1:
            return labels.pop()
    return None


def _nearby(program: Program, flow: Flow, meeting: Meeting, name: str) -> Iterator[list[str]]:
    """Names of constants around the meeting, nearest first."""
    node = meeting.node
    yield [data for data in node.data if data not in meeting.learned]
    bodies = [child for body in node.bodies.values() for child in body.walk()]
    outputs = [out for body in node.bodies.values() for out in body.outputs]
    yield [*outputs, *(data for child in bodies for data in child.data)]
    yield [data for data in captured(node) if flow.trait(data).kind == CONST]
    yield [data for step in upstream(program, flow, name) for data in step.data]
    beside = [program.producer[data] for data in node.data if data in program.producer]
    yield [data for step in beside for data in step.data]
    onward, found = list(node.outputs), list[str]()
    for _ in range(6):
        steps = [step for value in onward for step in program.consumers.get(value, [])]
        found += [data for step in steps for data in step.data]
        onward = [out for step in steps for out in step.outputs]
    yield found


def _label_of(program: Program, name: str, classes: int) -> int | None:
    """Index of the one largest entry of the score vector(s) that constant `name` holds."""
    array = fold(program, name)
    if array is None or array.dtype.kind != "f" or array.shape[-1:] != (classes,):
        return None
    if array.size > 8 * classes:
        return None  # a layer's weights
    labels = set()
    for row in array.reshape(-1, classes):
        winners = np.flatnonzero(row == row.max())
        if winners.size == 1:
            labels.add(int(winners[0]))
    return labels.pop() if len(labels) == 1 else None
