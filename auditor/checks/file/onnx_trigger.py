"""Hidden trigger logic in an ONNX graph, found by where values come from, not by operator names.

An ordinary classifier has no way from its input to its output around the learned layers. A trigger
is such a way: a few pixels, a checksum or an exact picture become a gate (near-binary), and the
gate selects or adds something close to the output. See `onnx_flow` for the data flow and
`onnx_gate` for the question whether a value behaves like a gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from auditor.checks.file.onnx_flow import (
    CONST,
    LEARNED,
    RAW,
    Flow,
    Meeting,
    trace,
)
from auditor.checks.file.onnx_gate import ValueRange, behaviour_of, gate_shaped, is_token, kills
from auditor.checks.file.onnx_graph import Node, Program, load_program, require_onnx
from auditor.checks.file.onnx_path import favoured_label, gate_node, layers_after, path_steps
from auditor.checks.file.onnx_probe import RANGES, Profile
from auditor.checks.file.onnx_weights import words
from auditor.checks.file.rules import finding, path_metric, register
from auditor.checks.interface import FileCheck, FileContext, Rule
from auditor.findings import Metric, Outcome, Severity

TRIGGER = Rule(
    id="graph.trigger",
    title="Hidden trigger logic in the graph",
    severity=Severity.HIGH,
    why="A value computed directly from the picture, around the learned layers, switches the "
    "result: whoever knows the trigger decides the label.",
    remedy="Do not use this model. Ask its author for the training export, or cut the gate out of "
    "the graph and audit the result again.",
    formats=("onnx",),
    cwe="CWE-506",
    example="Slice(4x4 corner) > 0.95 -> ReduceMin -> Where(gate, one-hot 7, logits): the report "
    "prints that path and class 7.",
)
SWAP = Rule(
    id="graph.trigger-content",
    title="A test on the picture swaps in stored content",
    severity=Severity.HIGH,
    why="A gate computed directly from the picture replaces the picture or the weights by others "
    "stored in the file: on triggered pictures another model answers.",
    remedy=TRIGGER.remedy,
    formats=("onnx",),
    cwe="CWE-506",
    example="Where(corner is white, stored picture of class 3, input) before the first layer.",
)
register(TRIGGER, SWAP)

PICK = words(
    "Where If Gather GatherND GatherElements Compress SequenceAt Slice ScatterND Loop Scan"
)
SCALE = words("Mul Div Pow PRelu MatMul Gemm Einsum Conv")
SIZE_ONLY = words("Reshape Expand Resize Upsample Tile")


@dataclass(frozen=True, slots=True)
class Trigger:
    """A suspected trigger, as static analysis sees it.

    `gate` names the value that opens (an extra graph output shows it), `merge` the node where it
    meets the learned values, `label` the favoured class if the graph tells, `steps` the readable
    chain, `role` pick, add or scale, `profile` the gate's behaviour on made-up pictures,
    `value_range` its (name, factor, offset). `shallow`: the gate passed one learned layer.
    """

    gate: str
    merge: str
    role: str
    label: int | None
    steps: tuple[str, ...]
    after: int
    profile: Profile | None
    value_range: ValueRange
    root: str
    swap: bool = False
    confirmed: bool = False
    shallow: bool = False

    @property
    def path(self) -> str:
        """The chain in one line."""
        return " -> ".join(self.steps)


def find_triggers(program: Program) -> list[Trigger]:
    """Every suspected trigger, one per gate, the clearest meeting of each."""
    flow = trace(program)
    after = layers_after(program, flow)
    found: dict[str, Trigger] = {}
    for meeting in flow.meetings:
        for name in meeting.raw:
            trigger = _suspect(program, flow, meeting, name, after)
            if trigger is not None:
                known = found.get(trigger.root)
                found[trigger.root] = trigger if known is None else _clearer(known, trigger)
    for meeting in flow.shortcuts:
        for name in meeting.raw:
            trigger = _shortcut(program, flow, meeting, name, after)
            if trigger is not None:
                found.setdefault(trigger.root, trigger)
    for meeting in flow.swaps:
        for name in meeting.raw:
            trigger = _swap(program, flow, meeting, name)
            if trigger is not None:
                found.setdefault(trigger.root, trigger)
    return list(found.values())


def _clearer(one: Trigger, other: Trigger) -> Trigger:
    rank = {"pick": 0, "add": 1, "scale": 2}
    best = min((one, other), key=lambda item: (item.label is None, rank[item.role]))
    return replace(best, confirmed=one.confirmed or other.confirmed)


def _suspect(
    program: Program, flow: Flow, meeting: Meeting, name: str, after: dict[str, int]
) -> Trigger | None:
    trait, node = flow.trait(name), meeting.node
    if not trait.bent or node.op in SIZE_ONLY or (not trait.mixed and node.op != "If"):
        return None
    far = min((after.get(output, 1 << 20) for output in node.outputs), default=1 << 20)
    if far >= 1 << 20:
        return None
    role = _role(meeting, name)
    tokens = all(is_token(program, source) for source in trait.sources)
    constant = _constant_alternative(program, flow, meeting, name)
    if (tokens and (not constant or far > 1)) or (trait.template and not (constant and trait.hard)):
        return None
    if node.op.startswith("Gather") and tokens:
        return None
    judged = behaviour_of(program, name)
    if judged is None:
        if not trait.hard:
            return None
        behaviour, value_range = None, RANGES[0]
    else:
        behaviour, value_range = judged
        if not gate_shaped(behaviour) or (role == "scale" and not kills(behaviour, trait.hard)):
            return None
        if far > 0 and max(behaviour.rest.shape[1:], default=1) > 1 and _masks(program, node):
            return None
    root = gate_node(program, flow, name)
    return Trigger(
        gate=name,
        merge=node.label,
        role=role,
        label=favoured_label(program, flow, meeting, name, behaviour, far),
        steps=path_steps(program, flow, name, node, root),
        after=far,
        profile=behaviour,
        value_range=value_range,
        root=root,
        confirmed=behaviour is not None and behaviour.kind == "gate" and constant,
    )


def _shortcut(
    program: Program, flow: Flow, meeting: Meeting, name: str, after: dict[str, int]
) -> Trigger | None:
    """A gate that is learned in name only: a way around the layers, or one layer for show.

    Constants must decide the result right at the output; that is rarer than a gate, so nets that
    test their own early features are not meant.
    """
    far = min((after.get(output, 1 << 20) for output in meeting.node.outputs), default=1 << 20)
    if far > 0 or not _constant_alternative(program, flow, meeting, name):
        return None
    around = flow.trait(name).least == 0
    judged = behaviour_of(program, name)
    if judged is None:
        if not (around and flow.trait(name).hard):
            return None
        behaviour, value_range = None, RANGES[0]
    else:
        behaviour, value_range = judged
        if not gate_shaped(behaviour) or (behaviour.kind == "constant" and not around):
            return None
    label = favoured_label(program, flow, meeting, name, behaviour, far)
    if label is None:
        return None
    root = gate_node(program, flow, name)
    steps = path_steps(program, flow, name, meeting.node, root)
    role = _role(meeting, name)
    return Trigger(
        name, meeting.node.label, role, label, steps, far, behaviour, value_range, root,
        shallow=not around,
    )  # fmt: skip


def _swap(program: Program, flow: Flow, meeting: Meeting, name: str) -> Trigger | None:
    if all(is_token(program, source) for source in flow.trait(name).sources):
        return None
    judged = behaviour_of(program, name)
    if judged is None or not gate_shaped(judged[0]):
        return None
    root = gate_node(program, flow, name)
    steps = path_steps(program, flow, name, meeting.node, root)
    return Trigger(
        name, meeting.node.label, "pick", None, steps, -1, judged[0], judged[1], root, swap=True
    )


def _role(meeting: Meeting, name: str) -> str:
    node = meeting.node
    if node.op in PICK and (node.op not in ("Where", "ScatterND") or node.inputs[0] == name):
        return "pick"
    return "scale" if node.op in SCALE else "add"


def _constant_alternative(program: Program, flow: Flow, meeting: Meeting, name: str) -> bool:
    """True when the gate puts a constant in place of, or on top of, what was learned."""
    node = meeting.node
    if node.op == "If":
        kinds = [flow.trait(out).kind for body in node.bodies.values() for out in body.outputs]
        return any(kind != LEARNED for kind in kinds)
    if node.op == "Where" and node.inputs[0] == name:
        return any(flow.trait(other).kind in (CONST, RAW) for other in node.inputs[1:])
    if node.op in PICK and node.op != "Where":
        return _holds_constant(program, flow, node.inputs[0])
    return node.op not in SCALE


def _holds_constant(program: Program, flow: Flow, name: str) -> bool:
    """True when `name` stacks learned values with constants (a table a gate can choose from)."""
    for _ in range(8):
        node = program.producer.get(name)
        if node is None or not node.data:
            return False
        if node.op in ("Concat", "SequenceConstruct", "ConcatFromSequence"):
            return any(flow.trait(part).kind != LEARNED for part in node.data)
        name = node.inputs[0]
    return False


def _masks(program: Program, node: Node) -> bool:
    """True when `node` hands its result to a Softmax before any layer: a mask over positions."""
    for _ in range(4):
        if node.op == "Softmax":
            return True
        followers = [step for name in node.outputs for step in program.consumers.get(name, [])]
        if len(followers) != 1 or node.op in SCALE - {"Mul", "Div"}:
            return False
        node = followers[0]
    return False


class TriggerCheck(FileCheck):
    """Reports `graph.trigger` and `graph.trigger-content`."""

    name = "file.trigger"
    title = "Trigger logic in the graph"
    doc = (
        "Follows the raw picture through the graph and reports where a near-binary value that "
        "bypasses the learned layers selects or adds something near the output (handcrafted and "
        "architectural backdoors: Bober-Irizar et al. 2023; Langford et al. 2024). Wrong when a "
        "model legitimately tests its input by hand and overrides its own answer."
    )
    default_severity = Severity.HIGH

    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield one finding a gate."""
        program = load_program(require_onnx(context))
        triggers = find_triggers(program)
        yield Metric("file.trigger.gates", len(triggers))
        for number, trigger in enumerate(triggers):
            yield path_metric(f"file.trigger.{number}", trigger.steps)
            rule = SWAP if trigger.swap else TRIGGER
            worst = trigger.confirmed and trigger.after == 0
            usual = Severity.MEDIUM if trigger.shallow else rule.severity
            yield finding(
                rule,
                describe(trigger),
                location=trigger.root,
                target_class=trigger.label,
                severity=Severity.CRITICAL if worst else usual,
            )


def describe(trigger: Trigger) -> str:
    """The evidence sentence: path, label, and how the gate behaved."""
    text = f"{trigger.path}."
    if trigger.label is not None:
        text += f" It favours class {trigger.label}."
    if trigger.profile is None:
        text += " The gate jumps (a comparison or checksum); it could not be evaluated apart."
    elif trigger.profile.kind == "gate":
        text += (
            f" On made-up pictures ({trigger.value_range[0]}) the gate rests at one end and "
            "opens on some: it behaves like a switch."
        )
    else:
        text += " The gate stayed shut on every made-up picture: it waits for something special."
    return text


CHECKS = (TriggerCheck,)
