"""Confirm a suspected graph trigger by running it: solve for an input that opens the gate.

The static rule `graph.trigger` names a gate. Here its hand-made test is walked backwards to an
input (`auditor.checks.file.onnx_solve`), that input is pasted into ordinary pictures where it
matters, and the whole model answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from auditor.artifacts.recognise import recognise
from auditor.checks.file.onnx_graph import Program, load_program
from auditor.checks.file.onnx_probe import ORDINARY, open_slice, pictures
from auditor.checks.file.onnx_solve import Solution, solve
from auditor.checks.file.rules import finding, register
from auditor.checks.interface import BehaviourCheck, BehaviourContext, Rule, Skipped
from auditor.findings import Figure, Metric, Notice, Outcome, Severity

if TYPE_CHECKING:
    from auditor.checks.file.onnx_trigger import Trigger

CONFIRMED = Rule(
    id="graph.trigger-confirmed",
    title="The hidden trigger works",
    severity=Severity.CRITICAL,
    why="An input solved from the gate's own test was pasted into ordinary pictures, and the model "
    "changed its answer as the gate's author intended.",
    remedy="Do not use this model.",
    formats=("onnx",),
    cwe="CWE-506",
    example="White 4x4 corner solved from Slice -> Greater -> ReduceMin: 16 of 16 pictures become "
    "class 7.",
)
register(CONFIRMED)

COUNT = 16
ENOUGH = 0.9


class TriggerConfirmation(BehaviourCheck):
    """Runs triggered pictures through the model; `options["path"]` names the artifact."""

    name = "graph.trigger-confirm"
    title = "Confirmation of graph triggers"
    doc = (
        "Solves the gate that file.trigger found for an input that opens it, pastes that input "
        "into ordinary pictures and counts the flips. Silence is no acquittal: some gates (secret "
        "checksums, hashes) cannot be solved."
    )
    needs = frozenset({"file", "predictions"})
    default_severity = Severity.CRITICAL
    order = 5
    weight = 0.2

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield a finding and a figure for each trigger that works."""
        from auditor.checks.file.onnx_trigger import find_triggers

        path = context.options.get("path")
        if not path or recognise(Path(str(path))) != "onnx":
            raise Skipped("only ONNX graphs have gates that can be solved")
        program = load_program(Path(str(path)))
        triggers = [trigger for trigger in find_triggers(program) if len(program.inputs) == 1]
        if not triggers:
            raise Skipped("file.trigger found no gate to confirm")
        confirmed = 0
        for trigger in triggers:
            if context.budget.spent:
                yield Notice("Time was up before every gate was tried.")
                break
            outcome = _try(program, trigger, context)
            if outcome is None:
                yield Notice(f"No input was found that opens the gate {trigger.root!r}.")
                continue
            confirmed += 1
            yield from outcome
        yield Metric("graph.trigger.confirmed", confirmed)


def _try(program: Program, trigger: Trigger, context: BehaviourContext) -> list[Outcome] | None:
    """The finding and picture of `trigger`, None when no opened picture changes the answer."""
    name = next(iter(program.inputs))
    _, factor, offset = trigger.value_range
    solution = solve(program, trigger.gate, offset, offset + factor) or _seen(trigger, name)
    if solution is None:
        return None
    plain = _plain(program, trigger, context)
    if plain is None or plain.shape[1:] != solution.picture[name].shape[1:]:
        return None
    opened = np.where(solution.mask[name], solution.picture[name], plain).astype(plain.dtype)
    native = context.classifier.native
    before = native.scores(plain).argmax(axis=1)
    after = native.scores(opened).argmax(axis=1)
    label = int(np.bincount(after).argmax())
    share = float(np.mean(after == label))
    moved = float(np.mean(after != before))
    if share < ENOUGH or moved == 0.0 or (trigger.label is not None and label != trigger.label):
        return None
    text = (
        f"With the solved input {int(np.sum(after == label))} of {len(after)} pictures become "
        f"class {label} ({int(np.sum(before == label))} were before). Gate: {trigger.path}."
    )
    return [
        finding(CONFIRMED, text, location=trigger.root, target_class=label),
        Metric(f"graph.trigger.asr@{label}", share),
        Figure(
            f"graph-trigger-{label}",
            f"An input that opens the gate {trigger.root}",
            _image(solution.picture[name]),
            from_samples=False,
        ),
    ]


def _seen(trigger: Trigger, name: str) -> Solution | None:
    """The made-up picture that opened the gate during the static check."""
    if trigger.profile is None or trigger.profile.kind != "gate":
        return None
    picture = trigger.profile.picture
    if name not in picture:
        return None
    return Solution(picture, {name: np.ones(picture[name].shape, bool)})


def _plain(
    program: Program, trigger: Trigger, context: BehaviourContext
) -> NDArray[np.float32] | None:
    """Ordinary inputs as the model takes them: the user's samples, else made-up pictures."""
    if context.samples is not None and len(context.samples):
        import torch

        chosen = context.samples.pixels[:COUNT]
        ready = context.classifier.preprocessing.apply(
            torch.from_numpy(np.ascontiguousarray(chosen))
        )
        return np.asarray(ready.numpy(), np.float32)
    piece = open_slice(program, (trigger.gate,))
    if piece is None:
        return None
    _, factor, offset = trigger.value_range
    name = next(iter(program.inputs))
    made = [picture[name] for picture in pictures(piece, factor, offset, context.seed)]
    return np.concatenate(made[: min(COUNT, ORDINARY)]).astype(np.float32)


def _image(values: NDArray[Any]) -> NDArray[np.uint8]:
    """The first picture of an input of any layout, grey or RGB, stretched to 0..255."""
    first = np.asarray(values, np.float64)[0]
    if first.ndim == 3 and first.shape[0] in (1, 3):
        first = np.moveaxis(first, 0, -1)
    if first.ndim == 3 and first.shape[-1] != 3:
        first = first[..., 0]
    if first.ndim < 2:
        side = int(np.sqrt(first.size))
        first = first.reshape(-1)[: side * side].reshape(side, side)
    span = float(first.max() - first.min()) or 1.0
    return np.asarray((first - first.min()) / span * 255, np.uint8)


CHECKS = (TriggerConfirmation,)
