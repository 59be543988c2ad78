"""Where a gate meets what it may change: the places that make a trigger.

Each method returns the abstract result of the combination and, when a gate of the raw input decides
over a constant or over learned scores, records a `Hit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditor.checks.file.torch_flow import (
    UNKNOWN,
    Gate,
    Value,
    becomes_state,
    judges_itself,
    opens,
    trail_of,
    union,
)

LARGE = 64
"""Elements from which a constant selected in place of the input counts as a stored image."""

MAX_HITS = 200


@dataclass(frozen=True, slots=True)
class Hit:
    """A gate that decides: `how` says what it does, `level` 2 high, 1 medium, 0 low."""

    how: str
    step: str
    gate: Gate
    label: int | None
    level: int


class Sinks:
    """Collects hits; keeps the stack of gates that control the current code."""

    def __init__(self) -> None:
        self.hits: list[Hit] = []
        self.control: list[Value] = []
        self._layers = 0

    def new_layer(self) -> int:
        """A fresh bit for one evaluation of a learned layer."""
        self._layers += 1
        return 1 << self._layers

    def record(self, how: str, step: str, gate: Gate, label: int | None, level: int) -> None:
        """Keep a hit unless there are too many."""
        if len(self.hits) < MAX_HITS:
            self.hits.append(Hit(how, step, gate, label, level))

    def choose(self, condition: Value, yes: Value, no: Value, step: str) -> Value:
        """``where(condition, yes, no)`` and both arms of an ``if``."""
        gate = opens(condition)
        out = union([yes, no], "")
        if yes is no:
            return out
        if gate is None:
            if condition.constant:
                return out
            merged = union([yes, no, condition], step)
            return merged.copy(narrow=out.narrow and condition.narrow, gate=None, gated=None)
        if yes.learned or no.learned:
            self._over_learned(gate, yes, no, step)
            return out.copy(gate=None, gated=None)
        if yes.constant and no.constant:
            merged = union([condition], step)
            label = yes.label if yes.label is not None else no.label
            single = yes.single and no.single
            shape = yes.shape or no.shape
            return merged.copy(gated=None if single else gate, label=label, shape=shape, base=None)
        large = max((v.count for v in (yes, no) if v.constant), default=0)
        if large >= LARGE and not (yes.narrow or no.narrow):
            self.record("swaps the input for a stored tensor", step, gate, None, 2)
        gated = yes.gated or no.gated
        return union([yes, no, condition], step).copy(gated=gated)

    def _over_learned(self, gate: Gate, yes: Value, no: Value, step: str) -> None:
        target = no if no.learned else yes
        if judges_itself(gate, target):
            return
        constant = next((v for v in (yes, no) if v.constant or v.gated), None)
        if constant is not None:
            level = 2 if gate.hard else 1
            if constant.zero and constant.label is None:
                level = 1 if gate.placed and not gate.layers else 0
            self.record("replaces the scores by a constant", step, gate, constant.label, level)
        elif yes.learned != no.learned:
            level = 2 if gate.placed and gate.hard else 0
            self.record("replaces the scores by a value of the input", step, gate, None, level)
        else:
            self._two_learned(gate, yes, no, step)

    def _two_learned(self, gate: Gate, yes: Value, no: Value, step: str) -> None:
        if gate.layers:
            return  # learned routing between experts
        same = yes.layers & no.layers in (yes.layers, no.layers)
        label = yes.label if yes.label is not None else no.label
        if same and gate.hard:
            level = 2 if gate.placed or label is not None else 1
            self.record("changes the scores", step, gate, label, level)
        elif gate.placed and gate.hard:
            self.record("chooses between two networks", step, gate, None, 2)

    def add(self, parts: Sequence[Value], step: str) -> Value:
        """A sum: a gated constant added to learned scores, or a gate added to one class."""
        out = union(parts, step)
        if len(parts) != 2:
            return out
        for gated, target in ((parts[0], parts[1]), (parts[1], parts[0])):
            if target.constant or gated.constant or (gated.learned and not gated.gated):
                continue
            gate = gated.gated or opens(gated)
            if gate is None:
                continue
            if target.learned and (gated.gated or _column(target) is not None):
                if not judges_itself(gate, target):
                    label = gated.label if gated.label is not None else _column(target)
                    steep = gate.hard or gated.gain >= 8
                    self.record(
                        "adds a constant to the scores", step, gate, label, 2 if steep else 1
                    )
                return out.copy(gate=None, gated=None)
            if gated.gated and gated.count >= LARGE and not target.narrow and not target.learned:
                self.record("adds a stored pattern to the input", step, gate, None, 2)
        narrow_gate = parts[0].gated or parts[1].gated
        return out.copy(gated=out.gated or (narrow_gate if not out.learned else None))

    def mask(self, left: Value, right: Value, step: str) -> None:
        """A product of learned scores with a gate switches them off or on."""
        for switch, target in ((left, right), (right, left)):
            gate = opens(switch)
            if gate is None or not target.learned or switch.learned or not gate.hard:
                continue
            if judges_itself(gate, target):
                continue
            self.record("switches the scores off", step, gate, None, 1 if gate.placed else 0)

    def assign(self, target: Value, value: Value, keys: Sequence[Value] | None, step: str) -> Value:
        """``target[keys] = value`` in place; `keys` None when the target itself is the place."""
        key_gate = next((k for k in keys or () if opens(k)), None)
        label = target.place
        if label is None and keys:
            label = next((k.known for k in reversed(keys) if isinstance(k.known, int)), None)
        if label is None:
            label = value.label
        switch = key_gate or self.controlling()
        gate = opens(switch) if switch is not None else None
        root = root_of(target)
        if root.constant:
            return self._write_constant(target, value, key_gate, label, step)
        hidden = value.gated or (opens(value) if target.learned else None)
        if target.learned and (gate or hidden) and not (value.learned and not value.gated):
            found = gate or hidden
            assert found is not None
            if not judges_itself(found, target):
                level = 2 if found.hard else 1
                if value.zero and label is None:
                    level = 1 if found.placed else 0
                self.record("overwrites scores by a constant", step, found, label, level)
        elif gate and not target.learned and value.constant and value.count >= LARGE:
            self.record("writes a stored pattern into the input", step, gate, None, 2)
        out = union([target, value], step)
        return out.copy(gate=target.gate, gated=None, base=target.base, place=target.place)

    def _write_constant(
        self, target: Value, value: Value, key: Value | None, label: int | None, step: str
    ) -> Value:
        """Writing into a constant makes it a constant for a class, or one a gate switches."""
        root = root_of(target)
        low = isinstance(value.known, int | float) and value.known <= 0
        if not low:
            root.label = label if label is not None else root.label
            root.zero = root.zero and value.zero
        switch = key or (value if value.narrow and value.gate else self.controlling())
        if switch is not None and switch.depth is not None:
            root.depth, root.layers, root.narrow = switch.depth, switch.layers, True
            root.gate = root.gated = opens(switch)
            root.trail = trail_of([switch], step)
        elif not value.constant:
            root.depth, root.layers = value.depth, value.layers
        return target if target is root else target.copy(base=root)

    def controlling(self) -> Value | None:
        """The innermost controlling condition that could be a trigger's gate."""
        return next((c for c in reversed(self.control) if opens(c)), None)


def overwrite(target: Value, result: Value, sinks: Sinks) -> None:
    """An in-place operator changes every name of the tensor, and what it is a view of."""
    if result is target:
        return
    root = root_of(target)
    switch = sinks.controlling()
    for value in {id(target): target, id(root): root}.values():
        if value.learned and value is not target:
            continue
        value.depth, value.layers, value.trail = result.depth, result.layers, result.trail
        value.narrow, value.gate, value.gated = result.narrow, result.gate, result.gated
        value.gain, value.known, value.ragged = result.gain, UNKNOWN, result.ragged
        value.placed, value.picks = result.placed, result.picks
        value.zero = value.zero and result.zero
        value.label = result.label if result.label is not None else target.place
        if result.constant and switch is not None:
            value.depth, value.layers, value.narrow = switch.depth, switch.layers, True
            value.gate = value.gated = opens(switch)
            value.trail = switch.trail
        if value.stored:
            becomes_state(value, "")


def root_of(value: Value) -> Value:
    """The tensor a view ultimately looks at."""
    for _ in range(64):
        if value.base is None:
            break
        value = value.base
    return value


def _column(target: Value) -> int | None:
    """The class a view of the scores stands for, None when it is no single column."""
    return target.place if target.base is not None else None
