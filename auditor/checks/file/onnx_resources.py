"""Resource bombs: loops that do not end, tensors no machine holds, graphs that unfold for ever."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from auditor.checks.file.onnx_flow import RAW, Flow, trace
from auditor.checks.file.onnx_fold import fold, scalar
from auditor.checks.file.onnx_graph import Graph, Node, Program, load_program, require_onnx
from auditor.checks.file.onnx_loops import endless
from auditor.checks.file.onnx_shapes import inferred_shapes
from auditor.checks.file.rules import finding, register
from auditor.checks.interface import FileCheck, FileContext, Rule
from auditor.errors import UnreadableArtifact
from auditor.findings import Finding, Metric, Outcome, Severity

REMEDY = "Do not run the model outside a sandbox with limits."
LOOP = Rule(
    id="resource.loop",
    title="A loop that does not end in reasonable time",
    severity=Severity.HIGH,
    why="Running the model once occupies the machine for hours or for ever.",
    remedy=REMEDY,
    formats=("onnx",),
    cwe="CWE-835",
    example="Loop with 2^62 trips whose condition stays true.",
    blocks_run=True,
)
SIZE = Rule(
    id="resource.size",
    title="A value too large for memory",
    severity=Severity.HIGH,
    why="Running the model once asks for more memory than machines have; the process is killed.",
    remedy=REMEDY,
    formats=("onnx",),
    cwe="CWE-789",
    example="Range(0, 2^32, 1): 17 GB of float32.",
    blocks_run=True,
)
GATED = Rule(
    id="resource.gated",
    title="The picture decides how much work is done",
    severity=Severity.HIGH,
    why="A chosen picture makes the model loop or allocate without bound; ordinary ones do not, so "
    "tests do not show it.",
    remedy=REMEDY,
    formats=("onnx",),
    cwe="CWE-400",
    example="Loop whose trip count is the sum of the pixels times 10^12.",
)
NESTING = Rule(
    id="resource.nesting",
    title="Subgraphs nested unusually deep",
    severity=Severity.MEDIUM,
    why="Readers descend recursively; deep nesting exhausts their stack.",
    remedy=REMEDY,
    formats=("onnx",),
    cwe="CWE-674",
    example="If inside If, 60 levels.",
)
EXPANSION = Rule(
    id="resource.functions",
    title="Local functions that unfold without bound",
    severity=Severity.HIGH,
    why="Runtimes inline functions while loading: calls of calls multiply to more nodes than fit.",
    remedy=REMEDY,
    formats=("onnx",),
    cwe="CWE-776",
    example="30 functions, each calling the next twice; or a function that calls itself.",
    blocks_run=True,
)
GRAPH_SIZE = Rule(
    id="resource.graph-size",
    title="A graph of extreme size",
    severity=Severity.MEDIUM,
    why="Loading and optimising it takes minutes to hours.",
    remedy=REMEDY,
    formats=("onnx",),
    cwe="CWE-400",
    example="A million Identity nodes.",
)
register(LOOP, SIZE, GATED, NESTING, EXPANSION, GRAPH_SIZE)

MAX_BYTES = 1 << 32
MANY_STEPS = 10**9
"""Node executions in loops above which a run is no longer a matter of minutes."""

DEEP, TOO_DEEP = 12, 40
ITEM = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
SIZED_BY = {
    "Range": (0, 1, 2), "Tile": (1,), "Expand": (1,), "ConstantOfShape": (0,), "Pad": (1,),
    "Resize": (2, 3), "OneHot": (1,), "Upsample": (1,),
}  # fmt: skip
"""Operands that decide the size of the result."""


class ResourceCheck(FileCheck):
    """Reports the `resource.*` rules."""

    name = "file.resources"
    title = "Resource bombs"
    doc = (
        "Estimates loop counts, sizes, nesting and function expansion without running the model. "
        "Wrong when a while-loop is meant to run for very long."
    )
    default_severity = Severity.HIGH

    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield findings about work and memory."""
        path = require_onnx(context)
        try:
            program = load_program(path)
        except UnreadableArtifact as problem:
            if "nodes" in str(problem):
                yield finding(GRAPH_SIZE, f"{problem}.")
                return
            raise
        from auditor.artifacts.onnx_load import INLINE_PROBLEM

        problem_text = program.model.meta.get(INLINE_PROBLEM)
        if problem_text is not None:
            yield finding(EXPANSION, f"{problem_text}.")
        flow = trace(program)
        yield from _loops(program, flow, program.main, 1.0, "")
        yield from _gated_sizes(program, flow)
        sizes = list(_sizes(program)) if problem_text is None else []
        yield from sizes
        yield from _folded_sizes(program, {item.location or "" for item in sizes})
        depth = nesting(program.main)
        yield Metric("file.resources.nesting", depth)
        if depth > DEEP:
            severity = Severity.HIGH if depth > TOO_DEEP else None
            yield finding(NESTING, f"Subgraphs are nested {depth} levels deep.", severity=severity)


def nesting(graph: Graph) -> int:
    """Levels of subgraphs below `graph`."""
    bodies = [body for node in graph.nodes for body in node.bodies.values()]
    return 1 + max(nesting(body) for body in bodies) if bodies else 0


def _loops(
    program: Program, flow: Flow, graph: Graph, times: float, outer: str
) -> Iterator[Finding]:
    for node in graph.nodes:
        trips = times
        if node.op == "Loop":
            trips, item = _loop(program, flow, node, times, outer)
            if item is not None:
                yield item
        for body in node.bodies.values():
            place = f"{outer} > {node.label}" if outer else node.label
            yield from _loops(program, flow, body, trips, place)


def _loop(
    program: Program, flow: Flow, node: Node, times: float, outer: str
) -> tuple[float, Finding | None]:
    """Executions of the loop's body, and a finding when they are too many or the picture's."""
    count, condition = (*node.inputs, "", "")[:2]
    for control in (count, condition):
        trait = flow.trait(control) if control else None
        if trait is not None and trait.kind == RAW and trait.bent | trait.mixed:
            options = all(program.inputs[name][0].startswith("INT") for name in trait.sources)
            severity = Severity.LOW if options else None
            text = f"{node.label} is controlled by {control!r}, computed from the input."
            return times, finding(GATED, text, location=node.label, severity=severity)
    limit = scalar(program, count) if count else float(1 << 62)
    body = next(iter(node.bodies.values()))
    if limit is None or limit <= 0:
        return times, None
    steps = times * limit * max(1, sum(1 for _ in body.walk()))
    if steps <= MANY_STEPS:
        return times * limit, None
    reason = endless(program, node, body, limit)
    if reason is None:
        return times, None
    text = f"{node.label} may run {limit:.3g} times{' inside ' + outer if outer else ''}: {reason}."
    return times * limit, finding(LOOP, text, location=node.label)


def _gated_sizes(program: Program, flow: Flow) -> Iterator[Finding]:
    for node in program.main.walk():
        for position in SIZED_BY.get(node.op, ()):
            name = node.inputs[position] if position < len(node.inputs) else ""
            trait = flow.trait(name) if name else None
            if trait is None or trait.kind != RAW:
                continue
            direct = not trait.bent and not trait.mixed
            tokens = all(program.inputs[source][0].startswith("INT") for source in trait.sources)
            yield finding(
                GATED,
                f"{node.label} takes its size from {name!r}, computed from the input.",
                location=node.label,
                severity=Severity.LOW if direct or tokens else None,
            )
            break


def _sizes(program: Program) -> Iterator[Finding]:
    """Sizes from onnx's shape inference; unknown dimensions count as one."""
    if program.skeleton is None:
        return
    try:
        inferred = inferred_shapes(program.skeleton)
    except Exception:  # inference refuses invalid models; model.invalid tells
        return
    made_by = {name: node for node in program.main.walk() for name in node.outputs}
    reported = 0
    stack = [inferred.graph]
    while stack:
        graph = stack.pop()
        for value in [*graph.value_info, *graph.output]:
            tensor = value.type.tensor_type
            dims = [max(dim.dim_value, 1) for dim in tensor.shape.dim]
            size = float(np.prod(dims, dtype=float)) * ITEM.get(tensor.elem_type, 4)
            if size >= MAX_BYTES and reported < 5:
                reported += 1
                node = made_by.get(value.name)
                place = node.label if node is not None else value.name
                yield finding(SIZE, f"{place} makes {dims}: {size / 1e9:,.1f} GB.", location=place)
        for child in graph.node:
            stack.extend(attr.g for attr in child.attribute if attr.HasField("g"))


def _folded_sizes(program: Program, told: set[str]) -> Iterator[Finding]:
    """Sizes that shape inference does not compute: float limits and folded constants."""
    for node in program.main.walk():
        if node.label in told:
            continue
        count = 0.0
        if node.op == "Range" and len(node.inputs) > 2:
            start, limit, delta = (scalar(program, name) for name in node.inputs[:3])
            if start is not None and limit is not None and delta:
                count = max(0.0, float(np.ceil((limit - start) / delta)))
        elif node.op in ("ConstantOfShape", "Expand", "Tile") and len(node.inputs) > 0:
            shape = fold(program, node.inputs[-1])
            if shape is not None and shape.dtype.kind in "iu":
                count = float(np.prod(np.maximum(shape, 1), dtype=float))
        if count * 4 >= MAX_BYTES:
            text = f"{node.label} makes {count:,.0f} values: {count * 4 / 1e9:,.1f} GB."
            yield finding(SIZE, text, location=node.label)


CHECKS = (ResourceCheck,)
