"""Where values come from: constants, the raw input without learned weights, or learned layers.

One forward pass gives every value a `Trait`. A *meeting* is a node where a bent (non-linear) value
of the raw input joins a value of the learned layers: ordinary classifiers have none, because every
path from their input runs through the learned layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from auditor.checks.file.onnx_graph import Graph, Node, Program, captured
from auditor.checks.file.onnx_optables import (
    COUNTS,
    LEARNED_OPS,
    MIXES,
    MOVES,
    PLACES,
    SHAPE_ARGUMENT,
    SHAPE_OF,
    jumps,
)
from auditor.checks.file.onnx_weights import (
    BY_SIZE,
    RECURRENT,
    constant_is_learned,
    is_zero,
    output_units,
    typed_by_hand,
    weight_operands,
)

CONST, RAW, LEARNED = 0, 1, 2


class Trait(NamedTuple):
    """What is known about a value.

    `depth`: most learned layers on a path to it. `bent`: not linear in the input; `hard`: passed a
    jump; `mixed`: no longer tied to one position; `template`: passed one dense hand-sized unit;
    `sources`: the graph inputs it depends on. `least`: fewest learned layers on a path from the
    input; `placed`: on that path, a few chosen numbers of the input rather than all of it.
    """

    kind: int = CONST
    depth: int = 0
    bent: bool = False
    hard: bool = False
    mixed: bool = False
    template: bool = False
    sources: frozenset[str] = frozenset()
    least: int = 0
    placed: bool = False


@dataclass(frozen=True, slots=True)
class Meeting:
    """`raw` values (bent, weight-free) and `learned` values that come together in `node`."""

    node: Node
    raw: tuple[str, ...]
    learned: tuple[str, ...]


@dataclass(slots=True)
class Flow:
    """The result of the pass: a trait per value, the meetings, and what learned layers remain.

    `shortcuts` are meetings whose first side passed learned layers in name only, or few of them.
    `counted` gives the values whose *shape* depends on the raw input, and on what.
    """

    traits: dict[str, Trait]
    meetings: list[Meeting]
    layers: set[int]
    swaps: list[Meeting]
    shortcuts: list[Meeting]
    counted: dict[str, Trait]

    def trait(self, name: str) -> Trait:
        """Trait of `name`; a constant when nothing is known."""
        return self.traits.get(name, Trait())


def trace(program: Program) -> Flow:
    """Run the pass over `program` (once; the result is kept with it)."""
    known = program.cache.get("flow")
    if isinstance(known, Flow):
        return known
    flow = _pass(program)
    if not flow.layers:
        # Weights all alike (untrained, stripped of their numbers): by size, then, or nothing here
        # would count as a layer and no gate could be told from it.
        program.cache[BY_SIZE] = True
        flow = _pass(program)
    program.cache["flow"] = flow
    return flow


def _pass(program: Program) -> Flow:
    flow = Flow({}, [], set(), [], [], {})
    for name, (dtype, shape) in program.inputs.items():
        # A flag or a number is an option of the caller, no part of the picture.
        option = dtype == "BOOL" or (shape is not None and len(shape) < 1)
        flow.traits[name] = Trait() if option else Trait(RAW, sources=frozenset({name}))
    _graph(program, program.main, flow)
    return flow


def _graph(program: Program, graph: Graph, flow: Flow) -> None:
    for node in graph.nodes:
        traits = _node(program, node, flow)
        for name, trait in zip(node.outputs, traits, strict=True):
            flow.traits[name] = trait


def join(traits: list[Trait]) -> Trait:
    """The least that holds for a value that may be any of `traits`."""
    if not traits:
        return Trait()
    return Trait(
        max(trait.kind for trait in traits),
        max(trait.depth for trait in traits),
        any(trait.bent for trait in traits),
        any(trait.hard for trait in traits),
        any(trait.mixed for trait in traits),
        any(trait.template for trait in traits),
        frozenset().union(*(trait.sources for trait in traits)),
        min((trait.least for trait in traits if trait.kind != CONST), default=0),
        any(trait.placed for trait in traits),
    )


def _node(program: Program, node: Node, flow: Flow) -> list[Trait]:
    if node.op == "If":
        return _branch(program, node, flow)
    if node.bodies:
        return _loop(program, node, flow)
    count = len(node.outputs)
    sizes = _sizes(node, flow)
    if sizes.kind == RAW:
        flow.counted.update(dict.fromkeys(node.outputs, sizes))
    if node.op in SHAPE_OF:
        return [sizes] * count
    names = node.data if node.op not in SHAPE_ARGUMENT else node.data[:1]
    inputs = [flow.trait(name) for name in names]
    base = join(inputs)
    if node.op in SHAPE_ARGUMENT:
        raw = [name for name in node.data[1:] if flow.trait(name).kind == RAW]
        if raw and base.kind == LEARNED:
            flow.meetings.append(Meeting(node, tuple(raw), tuple(names)))
        elif raw and base.kind == CONST:
            return [sizes] * count  # stored numbers, as many as the picture says
    if base.kind == CONST:
        return [base] * count
    if node.op in LEARNED_OPS:
        if typed_by_hand(program, node) and base.kind == RAW:
            return [base._replace(bent=True, hard=node.op not in RECURRENT, mixed=True)] * count
        flow.layers.add(id(node))
        return [_learned(base)] * count
    if node.op == "Mul" and any(is_zero(program, name) for name in names):
        return [Trait()] * count  # 0 * anything, the cheapest way to look learned
    learned = [name for name in names if flow.trait(name).kind == LEARNED]
    raw = [name for name in names if flow.trait(name).kind == RAW and flow.trait(name).bent]
    if learned and raw:
        flow.meetings.append(Meeting(node, tuple(raw), tuple(learned)))
    if learned:
        _note_shortcut(node, flow, learned)
    _note_swap(program, node, flow, raw, bool(learned))
    weights = _weights(program, node, flow)
    if weights:
        if base.kind == RAW and output_units(program, node, weights[0]) == 1:
            matched = _bend(node, base, inputs)
            return [matched._replace(template=True, least=base.least + 1)] * count
        flow.layers.add(id(node))
        return [_learned(base)] * count
    return [_bend(node, base, inputs)] * count


def _sizes(node: Node, flow: Flow) -> Trait:
    """What of the raw input decides how many entries `node` makes (or counts, for Shape)."""
    traits = [flow.counted[name] for name in node.data if name in flow.counted]
    if node.op in COUNTS:
        traits += [flow.trait(name) for name in node.data]
    elif node.op in SHAPE_ARGUMENT:
        traits += [flow.trait(name) for name in node.data[1:]]
    elif node.op == "ConstantOfShape":
        traits += [flow.trait(name) for name in node.data]
    traits = [trait for trait in traits if trait.kind == RAW]
    return join(traits)._replace(bent=True, hard=True, mixed=True) if traits else Trait()


def _note_shortcut(node: Node, flow: Flow, learned: list[str]) -> None:
    """Remember a bent value with a way around the layers (or past one) that joins deeper ones."""
    deepest = max(flow.trait(name).depth for name in learned)
    for name in learned:
        trait = flow.trait(name)
        around = trait.least == 0 and trait.placed and trait.bent
        shallow = trait.depth == 1 < deepest and trait.bent
        if around or shallow:
            others = tuple(other for other in learned if other != name)
            if others:
                flow.shortcuts.append(Meeting(node, (name,), others))


def _learned(base: Trait) -> Trait:
    return Trait(LEARNED, base.depth + 1, sources=base.sources, least=base.least + 1)


def _weights(program: Program, node: Node, flow: Flow) -> list[str]:
    """Constant operands that make `node` a learned layer."""
    return [
        name
        for name in weight_operands(node)
        if flow.trait(name).kind == CONST and constant_is_learned(program, name)
    ]


def _bend(node: Node, base: Trait, inputs: list[Trait]) -> Trait:
    """Trait of a weight-free `node` whose operands join to `base`."""
    raw = sum(trait.kind == RAW for trait in inputs)
    hard = jumps(node)
    product = raw > 1 and node.op in ("Mul", "Div", "MatMul", "Gemm", "Einsum", "Conv")
    divisor = node.op == "Div" and len(inputs) > 1 and inputs[1].kind == RAW
    index = node.op.startswith("Gather") and len(inputs) > 1 and inputs[1].kind == RAW
    bent = hard or product or divisor or index or node.op not in MOVES
    mixed = node.op in MIXES
    placed = node.op in PLACES or (
        base.kind == LEARNED
        and any(trait.kind == RAW and trait.mixed and not trait.bent for trait in inputs)
    )
    return base._replace(
        bent=base.bent or bent,
        hard=base.hard or hard,
        mixed=base.mixed or mixed,
        placed=base.placed or (placed and base.least == 0),
    )


def _note_swap(program: Program, node: Node, flow: Flow, raw: list[str], learned: bool) -> None:
    """Remember where a gate of the input picks or scales a large constant."""
    if learned or node.op not in ("Where", "Mul", "Gather", "MatMul", "Gemm"):
        return
    gates = [
        name
        for name in raw
        if flow.trait(name).mixed and flow.trait(name).hard and not flow.trait(name).template
    ]
    constants = [
        name
        for name in node.data
        if flow.trait(name).kind == CONST and constant_is_learned(program, name)
    ]
    if gates and constants:
        flow.swaps.append(Meeting(node, tuple(gates), tuple(constants)))


def _branch(program: Program, node: Node, flow: Flow) -> list[Trait]:
    for body in node.bodies.values():
        _graph(program, body, flow)
    condition = flow.trait(node.inputs[0])
    results = []
    met: set[str] = set()
    for index in range(len(node.outputs)):
        names = [body.outputs[index] for body in node.bodies.values() if index < len(body.outputs)]
        trait = join([flow.trait(name) for name in names])
        if condition.kind == RAW:
            met.update(name for name in names if flow.trait(name).kind == LEARNED)
            trait = join([trait, condition])._replace(bent=True, hard=True)
            if trait.kind == RAW:
                trait = trait._replace(mixed=True)
        elif condition.kind == LEARNED:
            trait = join([trait, condition])
        results.append(trait)
        if condition.kind == LEARNED:
            learned = [name for name in names if flow.trait(name).kind == LEARNED]
            _note_shortcut(node, flow, [node.inputs[0], *learned])
    if met:
        flow.meetings.append(Meeting(node, (node.inputs[0],), tuple(sorted(met))))
    return results


def _loop(program: Program, node: Node, flow: Flow) -> list[Trait]:
    """Loop, Scan and SequenceMap: bind the body's inputs, run the pass twice, join."""
    body = next(iter(node.bodies.values()))
    outer = [flow.trait(name) for name in node.inputs]
    offset = 2 if node.op == "Loop" else 0
    control = join([flow.trait(name) for name in node.inputs[:offset] if name])
    state = [Trait(), flow.trait(node.inputs[1]) if offset and node.inputs[1] else Trait()]
    bound = (state + outer[2:]) if offset else outer
    for _ in range(2):
        for position, name in enumerate(body.inputs):
            given = bound[position] if position < len(bound) else Trait()
            flow.traits[name] = join([given, flow.traits.get(name, Trait())])
        meetings = len(flow.meetings)
        _graph(program, body, flow)
        first = 1 if offset else 0
        carried = [flow.trait(name) for name in body.outputs[first:]]
        bound = [
            *bound[:offset],
            *[join([old, new]) for old, new in zip(bound[offset:], carried, strict=False)],
        ]
        if _ == 0:
            del flow.meetings[meetings:]
    results = [flow.trait(name) for name in body.outputs[1 if offset else 0 :]]
    results = (results + [join(results)] * len(node.outputs))[: len(node.outputs)]
    if control.kind == RAW:
        learned = [
            name
            for name in (*node.inputs[2:], *captured(node))
            if name and flow.trait(name).kind == LEARNED
        ]
        if learned:
            raw = [name for name in node.inputs[:2] if name and flow.trait(name).kind == RAW]
            flow.meetings.append(Meeting(node, tuple(raw), tuple(learned)))
        results = [join([trait, control])._replace(bent=True, hard=True) for trait in results]
    return [trait._replace(mixed=True) if trait.kind == RAW else trait for trait in results]
