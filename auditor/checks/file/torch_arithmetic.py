"""Sums, products and learned layers: where a gate meets stored numbers on its way to the scores."""

from __future__ import annotations

from auditor.checks.file.torch_flow import STEEP, UNKNOWN, Args, Named, Value, bend, flatten, union
from auditor.checks.file.torch_fold import finite, fold
from auditor.checks.file.torch_sinks import Sinks


def learned(op: str, args: Args, everything: Args, step: str, sinks: Sinks) -> Value:
    """A layer: data by weights, unless one gate-like number only scales a stored row."""
    parts = flatten(everything)
    data = [v for v in parts if not v.constant]
    out = union(everything, step)
    if not data:
        return out
    weights = [v for v in parts if v.constant and v.count != 1 and not v.zero]
    weights = [v for v in weights if v.known is UNKNOWN]
    addmm = op in ("addmm", "baddbmm", "addmv", "addbmm") and len(args) >= 3
    if addmm and not args[0].constant and _spread(args[1:3]):
        gated = _gated(args[1:3], step)
        return sinks.add([args[0], gated], step)
    if _spread([v for v in parts if v.shape is None or len(v.shape) != 1] or parts):
        return _gated(parts, step)
    packed = op not in ("matmul", "mm", "bmm", "einsum", "__matmul__", "tensordot", "inner")
    if not weights and not packed:
        return out.copy(narrow=False, gate=None, gated=None, label=None, gain=1.0)
    depth = None if out.depth is None else out.depth + 1
    few = any(len(v.shape or ()) in (1, 2) and min(v.shape or (9,)) <= 4 for v in weights)
    narrow = few and op in ("linear", "matmul", "mv", "mm", "addmm", "inner", "dot", "addmv")
    bit = sinks.new_layer()
    return Value(
        depth=depth,
        layers=out.layers | bit,
        narrow=narrow,
        placed=narrow and out.placed,
        picks=9 if narrow else 0,
        trail=out.trail if depth is not None and depth <= 1 else (),
    )


def _spread(parts: Args) -> bool:
    """True when one gate-like number is multiplied by a stored row: a gated constant vector."""
    data = [v for v in parts if not v.constant]
    rows = [v for v in parts if v.constant and v.count > 1]
    if len(data) != 1 or not data[0].narrow or data[0].gate is None or not rows:
        return False
    return any(1 in (v.shape or ())[:2] and len(v.shape or ()) == 2 for v in rows)


def _gated(parts: Args, step: str) -> Value:
    out = union(parts, step)
    return out.copy(gated=out.gate, gain=max(out.gain, STEEP), label=_label(parts))


def _label(parts: Args) -> int | None:
    return next((v.label for v in parts if v.label is not None), None)


def multiply(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    """A product or quotient: what constant factors do to the gain, and gates to what they scale."""
    out = union(args, step)
    if out.constant:
        out.known = fold(op, args)
        return out
    constants = [v for v in args if v.constant]
    data = [v for v in args if not v.constant]
    factors = [v.known for v in constants if isinstance(v.known, int | float)]
    gain = out.gain
    for factor in factors:
        change = abs(finite(factor))
        gain = gain * change if op == "mul" else gain / max(change, 1e-9)
    out.gain = min(gain, 1e12)
    if len(data) == 2 and op == "mul":
        sinks.mask(data[0], data[1], step)
        out.gated = out.gated or data[0].gated or data[1].gated
        if all(v.depth is not None and v.depth <= 1 for v in data) and out.narrow:
            out = bend(out, step, hard=False)
    vector = next((v for v in constants if not v.single and v.known is UNKNOWN), None)
    if vector is not None and op == "mul" and data and data[0].narrow and data[0].gate:
        out.gated = data[0].gate
        out.label = vector.label
        out.shape = vector.shape
    return out


def add(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    """A sum or difference, the second operand scaled by ``alpha``."""
    parts = list(args[:2])
    scale = named.get("alpha") or (args[2] if len(args) > 2 else None)
    if scale is not None and isinstance(scale.known, int | float) and len(parts) == 2:
        parts[1] = parts[1].copy(gain=parts[1].gain * abs(finite(scale.known)))
    if all(v.constant for v in parts):
        out = union(parts, step)
        out.known = fold(op, args)
        return out
    return sinks.add(parts, step)


def addc(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    """``a + value * b * c`` and its quotient."""
    product = multiply("mul" if op == "addcmul" else "div", args[1:3], named, step, sinks)
    return sinks.add([args[0], product], step)


def lerp(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    """An interpolation: a choice between its ends."""
    return sinks.choose(args[2], args[1], args[0], step) if len(args) > 2 else union(args, step)
