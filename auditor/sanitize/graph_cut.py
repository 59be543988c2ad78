"""Cut a trigger out of an ONNX graph: the honest branch stays, the way around it goes.

The file audit names the gate and the node where it meets the learned values (`onnx_trigger`). The
gate's value at rest, which the audit has computed on ordinary pictures, says what that node does
on them: a Where takes one side, an If one branch, an Add adds nothing. The node is replaced by
exactly that; then what nobody reads any more is dropped. One gate at a time, until the audit finds
none: a gate may hide behind another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx_ir as ir

    from auditor.checks.file.onnx_graph import Node, Program
    from auditor.checks.file.onnx_trigger import Trigger

MOST_CUTS = 16
_NOTHING = 1e-5
"""A contribution at rest below this share of the open one is none."""

_ADDS = {"Add", "Sub", "Sum"}
_SCALES = {"Mul", "Div"}


class CannotCut(Exception):
    """The gate meets the scores in a way that cannot be undone; the message says which."""


@dataclass(slots=True)
class Cut:
    """The rewritten model, a sentence for each cut, and nodes before and after."""

    model: ir.Model
    steps: list[str] = field(default_factory=list)
    nodes_before: int = 0
    nodes_after: int = 0


def cut_triggers(path: Path) -> Cut | None:
    """The model at `path` without its trigger logic; None when there is none.

    Functions are inlined and external data loaded into the model. Raises `CannotCut`, or
    `UnreadableArtifact` like every reader.
    """
    import onnx_ir as ir

    from auditor.artifacts import onnx_load, onnx_parse
    from auditor.checks.file.onnx_graph import build_program
    from auditor.checks.file.onnx_trigger import find_triggers

    model = onnx_load.to_ir(onnx_parse.read_model(path).proto, path)
    ir.external_data.load_to_model(model)
    cut = Cut(model, nodes_before=_count(model))
    for _ in range(MOST_CUTS):
        program = build_program(cut.model)
        triggers = find_triggers(program)
        if not triggers:
            break
        cut.steps.append(_cut_one(program, triggers[0]))
        _drop_dead(cut.model)
    else:
        raise CannotCut(f"after {MOST_CUTS} cuts the audit still finds trigger logic")
    cut.nodes_after = _count(cut.model)
    return cut if cut.steps else None


def _count(model: ir.Model) -> int:
    return sum(1 for _ in model.graph.all_nodes())


def _drop_dead(model: ir.Model) -> None:
    """Remove nodes and stored tensors that nothing reads any more."""
    from onnx_ir.passes import common

    common.RemoveUnusedNodesPass()(model)


def _cut_one(program: Program, trigger: Trigger) -> str:
    """Undo one meeting; the sentence that shows it."""
    node = _meeting(program, trigger)
    rest, reach = _at_rest(program, trigger)
    shown = f"{trigger.path}: "
    if node.op == "If":
        return shown + _take_branch(program, node, trigger, rest)
    if node.op == "Where" and node.inputs[0] == trigger.gate:
        side = _chosen_side(program, node, trigger, rest)
        _rewire(program, node, node.inputs[side])
        return shown + f"{node.label} replaced by its ordinary side {node.inputs[side]!r}"
    item = _stacked(program, node, trigger, rest)
    if item is not None:
        _rewire(program, node, item)
        return shown + f"{node.label} replaced by the item it takes at rest, {item!r}"
    honest = _untouched(node, trigger, rest, reach)
    if honest is not None:
        _rewire(program, node, honest)
        return shown + f"{node.label} replaced by {honest!r}, to which it added nothing at rest"
    if rest is None:
        raise CannotCut(f"{node.label} takes a gate whose ordinary value is not known")
    _freeze(program, node, trigger.gate, rest)
    return shown + f"gate {trigger.gate!r} at {node.label} replaced by its ordinary value"


def _meeting(program: Program, trigger: Trigger) -> Node:
    named = [node for node in program.main.walk() if node.label == trigger.merge]
    for node in named:
        if trigger.gate in node.data:
            return node
    if not named:
        raise CannotCut(f"{trigger.merge} is not in the graph")
    return named[0]


def _at_rest(program: Program, trigger: Trigger) -> tuple[NDArray[np.float64] | None, float]:
    """The gate's usual value (None when unknown) and how far it goes when open."""
    del program
    if trigger.profile is None:
        return None, 0.0
    return trigger.profile.rest, float(np.abs(trigger.profile.open).max(initial=0.0))


def _chosen_side(
    program: Program, node: Node, trigger: Trigger, rest: NDArray[np.float64] | None
) -> int:
    """Which data input of a Where is taken on ordinary pictures."""
    from auditor.checks.file.onnx_flow import LEARNED, trace

    if rest is not None and (np.all(rest != 0) or np.all(rest == 0)):
        return 1 if bool(np.all(rest != 0)) else 2
    flow = trace(program)
    learned = [i for i in (1, 2) if flow.trait(node.inputs[i]).kind == LEARNED]
    if len(learned) != 1:
        raise CannotCut(f"which side of {node.label} is the honest one cannot be told")
    return learned[0]


def _untouched(
    node: Node, trigger: Trigger, rest: NDArray[np.float64] | None, reach: float
) -> str | None:
    """The operand that passes through `node` unchanged while the gate rests, if one does."""
    others = [name for name in node.data if name != trigger.gate]
    if rest is None or len(others) != 1 or len(node.data) != 2:
        return None
    if node.op in _ADDS and not (node.op == "Sub" and node.inputs[0] == trigger.gate):
        # Unmoved on every made-up picture: `reach` is then no larger than the rest itself.
        limit = _NOTHING * max(reach, 1e-6)
        return others[0] if float(np.abs(rest).max(initial=0.0)) <= limit else None
    if node.op in _SCALES and not (node.op == "Div" and node.inputs[0] == trigger.gate):
        return others[0] if bool(np.all(np.abs(rest - 1.0) <= 1e-7)) else None
    return None


def _stacked(
    program: Program, node: Node, trigger: Trigger, rest: NDArray[np.float64] | None
) -> str | None:
    """The item a SequenceAt takes from a sequence made on the spot, while the gate rests."""
    if node.op != "SequenceAt" or rest is None or rest.size != 1 or node.inputs[0] == trigger.gate:
        return None
    maker = program.producer.get(node.inputs[0])
    index = int(rest.reshape(-1)[0])
    if maker is None or maker.op != "SequenceConstruct" or not 0 <= index < len(maker.inputs):
        return None
    return maker.inputs[index]


def _values(program: Program) -> dict[str, ir.Value]:
    """Every value of the model by its unique name."""
    found: dict[str, ir.Value] = {}
    for graph in program.model.graphs():
        for value in (*graph.inputs, *graph.initializers.values()):
            found[str(value.name)] = value
        for node in graph:
            found.update((str(value.name), value) for value in node.outputs)
    return found


def _rewire(program: Program, node: Node, honest: str) -> None:
    """Let everything that read the first output of `node` read `honest`."""
    _replace(program, node.source.outputs[0], _values(program)[honest])


def _replace(program: Program, old: ir.Value, new: ir.Value) -> None:
    """Replace `old` by `new` everywhere; a graph output keeps its name, type and shape."""
    import onnx_ir as ir

    graph = program.model.graph
    if any(value is old for value in graph.outputs):
        stored = new.is_graph_input() or new.is_initializer() or new.is_graph_output()
        if stored or new.graph is not graph:
            copy = ir.node("Identity", [new])
            producer = old.producer()
            assert producer is not None
            graph.insert_before(producer, copy)
            new = copy.outputs[0]
        name = str(old.name)
        old.name = f"{name}__cut"
        new.name, new.shape, new.type = name, old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def _take_branch(
    program: Program, node: Node, trigger: Trigger, rest: NDArray[np.float64] | None
) -> str:
    """Put the branch an If takes on ordinary pictures in its place."""
    name = _branch(program, node, trigger, rest)
    body = node.source.attributes[name].as_graph()
    graph = node.source.graph
    assert graph is not None
    outputs = list(body.outputs)
    for value in list(body.initializers.values()):
        body.initializers.pop(str(value.name))
        program.model.graph.register_initializer(value)
    moved = list(body)
    body.outputs.clear()
    for child in moved:
        body.remove(child)
        graph.insert_before(node.source, child)
    for old, new in zip(node.source.outputs, outputs, strict=True):
        _replace(program, old, new)
    return f"{node.label} replaced by its ordinary {name.replace('_', ' ')}"


def _branch(
    program: Program, node: Node, trigger: Trigger, rest: NDArray[np.float64] | None
) -> str:
    from auditor.checks.file.onnx_flow import LEARNED, trace

    if rest is not None and node.inputs[0] == trigger.gate and rest.size:
        return "then_branch" if bool(np.all(rest != 0)) else "else_branch"
    flow = trace(program)
    honest = [
        name
        for name, body in node.bodies.items()
        if all(flow.trait(out).kind == LEARNED for out in body.outputs)
    ]
    if len(honest) != 1:
        raise CannotCut(f"which branch of {node.label} is the honest one cannot be told")
    return honest[0]


def _freeze(program: Program, node: Node, gate: str, rest: NDArray[np.float64]) -> None:
    """Give `node` the gate's ordinary value as a constant instead of the gate."""
    import onnx_ir as ir

    value = _values(program)[gate]
    dtype: Any = value.dtype.numpy() if value.dtype is not None else _dtype_at(node, rest)
    array = np.asarray(rest, dtype=dtype)
    stored = ir.node("Constant", [], attributes={"value": ir.tensor(array)})
    graph = node.source.graph
    assert graph is not None
    graph.insert_before(node.source, stored)
    for index, name in enumerate(node.inputs):
        if name == gate:
            node.source.replace_input_with(index, stored.outputs[0])


def _dtype_at(node: Node, rest: NDArray[np.float64]) -> Any:
    """What type the operand must have where the graph does not say: an index or a number."""
    whole = bool(np.all(rest == np.rint(rest)))
    if node.op == "Compress":
        return np.bool_
    indexed = node.op.startswith("Gather") or node.op in ("SequenceAt", "Slice", "ScatterND")
    return np.int64 if indexed and whole else np.float32


def model_bytes(model: ir.Model, provenance: dict[str, str]) -> bytes:
    """`model` serialized, with `provenance` as one metadata entry (as write-back adds it)."""
    import json

    import onnx_ir as ir

    from auditor.artifacts.onnx_write import PROVENANCE

    key, count = PROVENANCE, 1
    while key in model.metadata_props:
        count += 1
        key = f"{PROVENANCE}.{count}"
    model.metadata_props[key] = json.dumps(provenance, sort_keys=True, ensure_ascii=False)
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))
