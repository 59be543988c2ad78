"""Where a value in TorchScript code comes from: what the trigger rules reason about.

The same idea as `onnx_flow`: an ordinary classifier has no path from its raw input to its output
that avoids the learned weights. A trigger needs one: raw input -> few numbers -> gate -> constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

STEEP = 8.0
"""Gain from which a squashing function counts as near-binary."""


class Unknown:
    """The value of an expression that is constant but was not computed."""

    def __repr__(self) -> str:
        return "?"


UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class Gate:
    """Where a value of the input became (nearly) binary.

    `depth` and `layers` are those of the input path into the gate; `hard` means it jumps.
    """

    hard: bool
    depth: int
    layers: int
    placed: bool
    trail: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Value:
    """An abstract value. All defaults: a constant of which nothing is known.

    `depth`: fewest learned layers between the raw input and this value, None without input data.
    `layers`: bit set of the learned layers passed on any path. `narrow`: a few numbers per sample
    rather than one per pixel. `placed`: taken from a fixed place. `gain`: product of constant
    factors since the last learned layer. `known`: the Python value if computed. `count`: elements
    of a constant tensor (0 unknown). `label`: class a constant favours. `gated`: the gate that
    switches this otherwise constant value. `base`/`place`: what it is a view of, and which class.
    `ragged`: its shape depends on data. `stored`: an attribute that outlives the call.
    """

    depth: int | None = None
    layers: int = 0
    gate: Gate | None = None
    narrow: bool = False
    placed: bool = False
    gain: float = 1.0
    picks: int = 0
    known: Any = UNKNOWN
    items: list[Value] | None = None
    table: dict[str, Value] | None = None
    shape: tuple[int, ...] | None = None
    label: int | None = None
    zero: bool = False
    gated: Gate | None = None
    base: Value | None = None
    place: int | None = None
    ragged: bool = False
    stored: bool = False
    ref: str = ""
    cls: str = ""
    node: Any = None
    attributes: dict[str, Value] = field(default_factory=dict)
    trail: tuple[str, ...] = ()

    @property
    def constant(self) -> bool:
        """True when nothing of the input is in it."""
        return self.depth is None and not self.layers

    @property
    def learned(self) -> bool:
        """True when it has passed learned layers."""
        return bool(self.layers)

    @property
    def count(self) -> int:
        """Elements of a constant of known shape (1 for a Python number), 0 when unknown."""
        if self.shape is not None:
            total = 1
            for size in self.shape:
                total *= size
            return total
        return 1 if isinstance(self.known, int | float) else 0

    @property
    def single(self) -> bool:
        """True for a constant that is one number: adding it favours no class."""
        return self.count == 1 and self.gated is None

    def copy(self, **changes: Any) -> Value:
        """A changed copy (views keep their base)."""
        return replace(self, **changes)


Args = Sequence[Value]
Named = Mapping[str, Value]
"""What an operator is called with."""


def becomes_state(value: Value, name: str) -> None:
    """A stored number the code changes remembers earlier calls: it can count or wait."""
    if value.constant and value.count <= 1 and not value.cls and value.items is None:
        value.depth, value.narrow, value.known = 0, True, UNKNOWN
        value.trail = (f"state {name}".strip(),)


def number(value: Any) -> Value:
    """A known Python constant."""
    return Value(known=value)


def trail_of(values: Iterable[Value], step: str) -> tuple[str, ...]:
    """The longest trail among `values` plus `step`, shortened in the middle."""
    best: tuple[str, ...] = ()
    for value in values:
        if len(value.trail) > len(best):
            best = value.trail
    if step and (not best or best[-1] != step):
        best = (*best, step)
    return best if len(best) <= 7 else (*best[:2], *best[-5:])


def flatten(values: Iterable[Value]) -> list[Value]:
    """Values with lists and tuples opened, at most 400."""
    out: list[Value] = []
    stack = list(reversed(list(values)))
    while stack and len(out) < 400:
        value = stack.pop()
        if value.items is not None:
            stack.extend(reversed(value.items))
        elif value.table is not None:
            stack.extend(value.table.values())
        else:
            out.append(value)
    return out


def union(values: Iterable[Value], step: str = "") -> Value:
    """What an element-wise combination of `values` carries."""
    parts = flatten(values)
    data = [v for v in parts if not v.constant]
    if not data:
        zero = bool(parts) and all(v.zero for v in parts)
        shapes = [v.shape for v in parts if v.shape is not None and v.count > 1]
        labels = {v.label for v in parts if v.label is not None}
        label = labels.pop() if len(labels) == 1 else None
        stored = any(v.stored for v in parts)
        return Value(zero=zero, shape=shapes[0] if shapes else None, label=label, stored=stored)
    depths = [v.depth for v in data if v.depth is not None]
    layers = 0
    for value in data:
        layers |= value.layers
    # A learned value without a gate of its own absorbs the gate: the sum is not near-binary.
    absorbed = any(v.learned and v.gate is None for v in data)
    gates = [] if absorbed else [v.gate for v in data if v.gate]
    gate = min(gates, key=lambda g: (g.depth, not g.hard), default=None)
    gated = None if absorbed else next((v.gated for v in data if v.gated), None)
    labels = {v.label for v in parts if v.label is not None}
    return Value(
        depth=min(depths, default=None),
        layers=layers,
        gate=gate,
        narrow=all(v.narrow for v in data),
        placed=any(v.placed for v in data),
        picks=max(v.picks for v in data),
        gain=max(v.gain for v in data),
        label=labels.pop() if len(labels) == 1 else None,
        gated=gated,
        ragged=any(v.ragged for v in data),
        trail=trail_of(data, step),
    )


def bend(value: Value, step: str, *, hard: bool) -> Value:
    """`value` after a non-linear step: it now carries a gate (a harder one if it had one)."""
    if value.depth is None:
        return value
    old = value.gate
    hard = hard or (old is not None and old.hard)
    depth, layers = (old.depth, old.layers) if old else (value.depth, value.layers)
    trail = trail_of([value], step)
    placed = value.placed or bool(old and old.placed)
    return value.copy(gate=Gate(hard, depth, layers, placed, trail), trail=trail)


def judges_itself(gate: Gate, target: Value) -> bool:
    """True when the network tests features of `target`'s own making (early exit, abstaining).

    A fixed place of the raw input around all layers is no feature, whatever was added to it.
    """
    around = gate.depth == 0 and gate.placed
    return bool(gate.layers) and not around and not gate.layers & ~target.layers


def opens(value: Value) -> Gate | None:
    """The gate of `value` if it could be a trigger's: few numbers of the raw input, hardly learned.

    Depth 1 is a matched filter: one convolution or dot product with a stored pattern.
    """
    gate = value.gate
    if gate is None or not value.narrow or gate.depth > 1:
        return None
    return gate
