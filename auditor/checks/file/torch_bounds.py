"""Resource bombs in code: sizes and trip counts known from constants, growth by doubling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auditor.checks.file.torch_flow import Value, flatten

MAX_ELEMENTS = 1 << 30
"""Elements of one tensor (4 GB of float32) beyond which no classifier goes."""

MAX_TRIPS = 1 << 24
"""Loop iterations, nested loops multiplied, beyond which a forward pass hangs."""

_SIZED = frozenset(
    """zeros ones full empty rand randn new_zeros new_ones new_full new_empty expand repeat tile
    broadcast_to resize randint view_copy""".split()  # noqa: SIM905 - a table of names
)
_LENGTH = frozenset({"arange", "eye", "linspace", "randperm", "logspace", "hann_window"})
_RESIZE = frozenset(
    """upsample_nearest2d upsample_bilinear2d upsample_bicubic2d interpolate __interpolate pad
    constant_pad_nd adaptive_avg_pool2d adaptive_max_pool2d one_hot repeat_interleave
    upsample_nearest1d upsample_nearest3d upsample_linear1d upsample_trilinear3d reflection_pad2d
    replication_pad2d""".split()  # noqa: SIM905 - a table of names
)
_DOUBLES = frozenset(
    {"cat", "stack", "kron", "outer", "hstack", "vstack", "concat", "cartesian_prod"}
)


@dataclass(frozen=True, slots=True)
class Bomb:
    """What would exhaust the machine: `kind` memory or loop."""

    kind: str
    text: str
    step: str


class Bounds:
    """Collects bombs while the interpreter runs."""

    def __init__(self) -> None:
        self.bombs: list[Bomb] = []
        self._trips: list[int] = []

    def _add(self, kind: str, text: str, step: str) -> None:
        bomb = Bomb(kind, text, step)
        if bomb not in self.bombs and len(self.bombs) < 50:
            self.bombs.append(bomb)

    def enter(self, trips: object) -> None:
        """A loop body begins."""
        self._trips.append(trips if isinstance(trips, int) else 1)

    def leave(self) -> None:
        """A loop body ends."""
        self._trips.pop()

    def loop(self, trips: object, source: Value, step: str) -> None:
        """A ``for`` over `trips` iterations, or over a number computed from the input."""
        if isinstance(trips, int):
            total = trips * math.prod(self._trips)
            if total > MAX_TRIPS:
                self._add("loop", f"{total} iterations", step)
        elif source.narrow and source.depth is not None and source.gain >= 1e5:
            self._add("loop", f"iterations: a number of the input times {source.gain:g}", step)

    def endless(self, step: str) -> None:
        """A ``while`` whose condition stays true."""
        self._add("loop", "the loop's condition never becomes false", step)

    def operator(
        self, op: str, args: Sequence[Value], named: Mapping[str, Value], step: str
    ) -> None:
        """Check the size `op` would allocate."""
        sizes: list[int] = []
        if op in _SIZED:
            sizes = _ints(args if op in ("expand", "repeat") else [*args[:1], *named.values()])
            sizes = sizes or _ints(args[1:])
        elif op in _RESIZE:
            sizes = _ints([*args[1:3], *named.values()])
        elif op in _LENGTH:
            known = _ints(args[:3])
            sizes = [max((abs(n) for n in known), default=0)] * (2 if op == "eye" else 1)
        total = math.prod(n for n in sizes if n > 0) if sizes else 0
        if total > MAX_ELEMENTS:
            self._add("memory", f"{op} of {total:.3g} elements ({4 * total / 1e9:.3g} GB)", step)
        if op in _DOUBLES and self._trips:
            parts = flatten(args)
            doubled = len(parts) > len({id(p) for p in parts})
            if doubled and max(self._trips) >= 24:
                self._add("memory", f"doubles a tensor {max(self._trips)} times", step)


def _ints(values: Sequence[Value]) -> list[int]:
    return [v.known for v in flatten(values) if isinstance(v.known, int) and v.known is not True]
