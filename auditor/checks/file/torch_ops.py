"""What each operator does to an abstract value: one table of operator classes, one rule a class.

Serves TorchScript calls (``torch.where``), tensor methods and .pt2 nodes (``aten.where.self``)
alike: all are reduced to the bare operator name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from auditor.checks.file.torch_arithmetic import add, addc, learned, lerp, multiply
from auditor.checks.file.torch_flow import (
    STEEP,
    UNKNOWN,
    Args,
    Gate,
    Named,
    Unknown,
    Value,
    bend,
    flatten,
    number,
    trail_of,
    union,
)
from auditor.checks.file.torch_fold import finite, fold
from auditor.checks.file.torch_moves import fill, index, join, move
from auditor.checks.file.torch_optables import (
    ALIASES,
    CHOOSE_FILL,
    CREATE,
    HARD,
    JOIN,
    LEARNED,
    MOVES,
    RAGGED,
    REDUCE,
    SHAPES,
    SIZES,
    SOFT,
    SWITCHES,
)
from auditor.checks.file.torch_sinks import Sinks


def operate(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    """The abstract result of operator `op` (bare name) on `args`, reporting to `sinks`.

    `step` describes the place (``code/__torch__.py:12 torch.where(…)``).
    """
    op = ALIASES.get(op, op)
    everything = [*args, *named.values()]
    if op in SHAPES:
        return _shape(op, args, step)
    if op == "where" and len(args) >= 3:
        return sinks.choose(args[0], args[1], args[2], step)
    if op in CREATE:
        return _create(op, args, named, step)
    if op in ("embedding", "embedding_bag") and _gate_key(args[1:2]):
        return index(op, args[:2], {}, step, sinks)
    if op in LEARNED:
        return learned(op, args, everything, step, sinks)
    special = _SPECIAL.get(op)
    if special is not None:
        return special(op, args, named, step, sinks)
    if op in CHOOSE_FILL:
        return fill(op, args, named, step, sinks)
    if op in JOIN:
        return join(op, everything, step)
    if op in MOVES:
        return move(op, args, named, step, sinks)
    return _curve(op, args, everything, step)


def _gate_key(keys: Args) -> bool:
    """True when a table is looked up by one gate-like number of the raw input."""
    return any(k.narrow and k.gate is not None and not k.learned for k in flatten(keys))


def _curve(op: str, args: Args, everything: Args, step: str) -> Value:
    """Reductions, comparisons and squashing functions (two-argument max is no reduction)."""
    both = op in ("max", "min") and len(args) == 2 and args[1].known is UNKNOWN
    out = union(everything, step)
    first = args[0] if args else Value()
    if op in REDUCE and not both:
        out = out.copy(narrow=not out.constant, picks=9, label=None, shape=None)
        if op in ("sum", "mean", "nansum", "nanmean") and not first.narrow and out.gate:
            out = out.copy(gate=_counted(out))
    hard = op in HARD
    if op in ("clamp", "clip", "hardtanh") and out.gain < STEEP and not _two_sided(args):
        return out
    if not out.constant and (hard or op in SOFT):
        steep = hard or op == "prod" or (out.gain >= STEEP and op in SWITCHES)
        out = bend(out, step, hard=steep)
    if op in RAGGED and not out.constant:
        out.ragged = True
    if op in ("pow", "float_power") and len(args) > 1 and isinstance(args[1].known, int | float):
        out = out.copy(gain=out.gain * max(1.0, abs(finite(args[1].known))))
    if out.constant:
        out.known = fold(op, args)
        if op in ("neg", "rsub"):
            out.label = None
    return out.copy(gated=first.gated) if op in ("neg", "abs", "relu") else out


def _counted(value: Value) -> Gate | None:
    """The gate of a sum of many gates: a count, no longer near-binary."""
    gate = value.gate
    return None if gate is None else replace(gate, hard=False)


def _two_sided(args: Args) -> bool:
    known = [isinstance(a.known, int | float) for a in args[1:3]]
    return len(known) == 2 and all(known)


def _shape(op: str, args: Args, step: str) -> Value:
    if op in ("__is__", "__isnot__") and len(args) == 2:
        return _is_none(op, args)
    if op == "len" and args and args[0].items is not None:
        return number(len(args[0].items))
    source = flatten(args[:1])
    if source and source[0].ragged and source[0].depth is not None and op in SIZES:
        return source[0].copy(narrow=True, base=None, trail=trail_of(source[:1], step))
    if args and args[0].shape is not None and args[0].constant:
        return _known_shape(op, args)
    return Value()


def _known_shape(op: str, args: Args) -> Value:
    shape = args[0].shape or ()
    if op == "size" and len(args) > 1 and isinstance(args[1].known, int):
        axis = args[1].known
        return number(shape[axis]) if -len(shape) <= axis < len(shape) else Value()
    if op == "size":
        return Value(items=[number(n) for n in shape])
    if op in ("dim", "ndim"):
        return number(len(shape))
    return number(args[0].count) if op == "numel" else Value()


def _is_none(op: str, args: Args) -> Value:
    left, right = args
    if right.known is None and not isinstance(left.known, Unknown):
        same = left.known is None
    elif right.known is None and (left.shape is not None or left.items is not None or left.cls):
        same = False
    else:
        return Value()
    return number(same if op == "__is__" else not same)


def _create(op: str, args: Args, named: Named, step: str) -> Value:
    filler = named.get("fill_value") or (args[1] if "full" in op and len(args) > 1 else None)
    if filler is not None and not filler.constant:
        gated = filler.gate if filler.narrow else None
        return filler.copy(gated=gated, base=None, trail=trail_of([filler], step))
    shape: tuple[int, ...] | None = None
    if args and args[0].items is not None:
        sizes = [v.known for v in args[0].items]
        if all(isinstance(n, int) for n in sizes):
            shape = tuple(sizes)
    zero = op.startswith(("zeros", "new_zeros")) or (
        filler is not None and filler.known in (0, 0.0, False)
    )
    return Value(zero=zero, shape=shape)


_SPECIAL: Mapping[str, Callable[..., Value]] = {
    "mul": multiply,
    "div": multiply,
    "add": add,
    "sub": add,
    "rsub": add,
    "__iadd__": add,
    "addcmul": addc,
    "addcdiv": addc,
    "lerp": lerp,
    "index": index,
    "__getitem__": index,
}
