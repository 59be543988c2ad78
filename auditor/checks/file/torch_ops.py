"""What each operator does to an abstract value: one table of operator classes, one rule a class.

Serves TorchScript calls (``torch.where``), tensor methods and .pt2 nodes (``aten.where.self``)
alike: all are reduced to the bare operator name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from auditor.checks.file.torch_flow import (
    STEEP,
    UNKNOWN,
    Gate,
    Unknown,
    Value,
    bend,
    flatten,
    judges_itself,
    number,
    opens,
    trail_of,
    union,
)
from auditor.checks.file.torch_fold import best_label, finite, fold
from auditor.checks.file.torch_optables import (
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
    VIEWS,
)
from auditor.checks.file.torch_sinks import Sinks

Args = Sequence[Value]
Named = Mapping[str, Value]


def operate(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    """The abstract result of operator `op` (bare name) on `args`, reporting to `sinks`.

    `step` describes the place (``code/__torch__.py:12 torch.where(…)``).
    """
    everything = [*args, *named.values()]
    if op in SHAPES:
        return _shape(op, args, step)
    if op == "where" and len(args) >= 3:
        return sinks.choose(args[0], args[1], args[2], step)
    if op in CREATE:
        return _create(op, args, named, step)
    if op in ("embedding", "embedding_bag") and _gate_key(args[1:2]):
        return _index(op, args[:2], {}, step, sinks)
    if op in LEARNED:
        return _learned(op, args, everything, step, sinks)
    special = _SPECIAL.get(op)
    if special is not None:
        return special(op, args, named, step, sinks)
    if op in CHOOSE_FILL:
        return _fill(op, args, named, step, sinks)
    if op in JOIN:
        return _join(op, everything, step)
    if op in MOVES:
        return _move(op, args, named, step, sinks)
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
    fill = named.get("fill_value") or (args[1] if "full" in op and len(args) > 1 else None)
    if fill is not None and not fill.constant:
        gated = fill.gate if fill.narrow else None
        return fill.copy(gated=gated, base=None, trail=trail_of([fill], step))
    shape: tuple[int, ...] | None = None
    if args and args[0].items is not None:
        sizes = [v.known for v in args[0].items]
        if all(isinstance(n, int) for n in sizes):
            shape = tuple(sizes)
    zero = op.startswith(("zeros", "new_zeros")) or (
        fill is not None and fill.known in (0, 0.0, False)
    )
    return Value(zero=zero, shape=shape)


def _learned(op: str, args: Args, everything: Args, step: str, sinks: Sinks) -> Value:
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


def _multiply(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
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


def _add(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    parts = list(args[:2])
    scale = named.get("alpha") or (args[2] if len(args) > 2 else None)
    if scale is not None and isinstance(scale.known, int | float) and len(parts) == 2:
        parts[1] = parts[1].copy(gain=parts[1].gain * abs(finite(scale.known)))
    if all(v.constant for v in parts):
        out = union(parts, step)
        out.known = fold(op, args)
        return out
    return sinks.add(parts, step)


def _addc(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    product = _multiply("mul" if op == "addcmul" else "div", args[1:3], named, step, sinks)
    return sinks.add([args[0], product], step)


def _lerp(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    return sinks.choose(args[2], args[1], args[0], step) if len(args) > 2 else union(args, step)


def _index(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    """A row of a constant table picked by a gate is a gated constant; else a move."""
    places = flatten([*args[1:], *named.values()])
    key = next((v for v in places if v.narrow and v.gate is not None), None)
    table = args[0] if args else Value()
    if key is not None and table.constant and table.count != 1:
        return key.copy(gated=key.gate, label=None, base=None, trail=trail_of([key], step))
    if table.items is not None and key is None and len(args) == 2:
        return _pick(table.items, args[1])
    masked = next((v for v in places if not v.constant), None)
    if masked is not None and not table.constant:
        out = union([table, masked], step)
        out.ragged = True
        return out.copy(narrow=table.narrow)
    out = _move("select" if places else op, args[:1], named, step, sinks)
    out.placed = out.placed or not table.constant
    return out


def _pick(items: list[Value], key: Value) -> Value:
    if isinstance(key.known, int) and -len(items) <= key.known < len(items):
        return items[key.known]
    return union(items) if items else Value()


def _move(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    source = args[0] if args else Value()
    if source.items is not None and op in ("tensor", "as_tensor", "NumToTensor"):
        return _literal(source.items, step)
    if source.items is not None and op not in ("list", "annotate", "unchecked_cast"):
        source = union(source.items, step)
    if op in ("index_select", "take", "gather", "take_along_dim"):
        return _index(op, [source, *args[1:]], named, step, sinks)
    if source.constant and op in ("repeat", "tile", "repeat_interleave"):
        switch = next((v for v in flatten([*args[1:], *named.values()]) if opens(v)), None)
        if switch is not None:  # a stored row, as many times as the gate says
            return switch.copy(gated=switch.gate, label=source.label, shape=source.shape, base=None)
    if op in ("annotate", "unchecked_cast") or source.constant:
        kept = op not in ("select", "slice", "unbind", "chunk", "split", "narrow")
        out = source if kept else source.copy(label=None, known=UNKNOWN)
        return _as_view(op, source, out, args, named)
    switch = next((v for v in flatten([*args[1:], *named.values()]) if opens(v)), None)
    gate = opens(switch) if switch is not None else None
    turned = source.learned and op in ("roll", "flip", "rot90")
    if gate is not None and turned and not judges_itself(gate, source):
        sinks.record("turns the scores around", step, gate, None, 2 if gate.hard else 1)
    out = source.copy(trail=source.trail)
    if op in ("select", "slice", "narrow") and source.depth is not None:
        _place(op, out, args, named, step)
    if op in ("bool", "long", "int") or (op == "to" and _to_integer(args)):
        out = bend(out, step, hard=True)
    return _as_view(op, source, out, args, named)


def _to_integer(args: Args) -> bool:
    return any(a.known in (0, 1, 2, 3, 4, 11) and a.known is not False for a in args[1:3])


def _place(op: str, out: Value, args: Args, named: Named, step: str) -> None:
    """Fixed places of the input: a slice or index with constant bounds."""
    bounds = [a.known for a in args[2:4]] + [v.known for k, v in named.items() if k != "dim"]
    axis = args[1].known if len(args) > 1 else 0
    if op == "select":
        index = args[2].known if len(args) > 2 else UNKNOWN
        out.placed = isinstance(index, int)
        out.picks += 2 if axis not in (0, 1) or (isinstance(index, int) and index > 3) else 1
        out.narrow = out.narrow or out.picks >= 3
    else:
        numbers = [b for b in bounds if isinstance(b, int) and b not in (0, 9223372036854775807)]
        if numbers and axis != 0:
            out.placed = True
            width = (
                bounds[1] - bounds[0]
                if len(bounds) > 1 and all(isinstance(b, int) for b in bounds[:2])
                else 9
            )
            out.picks += 1 if width == 1 else 0
            out.narrow = out.narrow or out.picks >= 3
    if out.placed and out.depth == 0:
        out.trail = trail_of([out], step)


def _as_view(op: str, source: Value, out: Value, args: Args, named: Named) -> Value:
    """Remember what a view looks at, and which class a column of the scores is."""
    if op not in VIEWS:
        return out
    out = out.copy(base=source, place=source.place)
    axis = args[1].known if len(args) > 1 else 0
    start = args[2].known if len(args) > 2 else UNKNOWN
    stop = args[3].known if len(args) > 3 else UNKNOWN
    one = op == "select" or (isinstance(stop, int) and isinstance(start, int) and stop - start == 1)
    second = axis in (1, -1) or (axis == 0 and source.base is not None)
    if op in ("select", "slice") and one and second and isinstance(start, int):
        out.place = start
    return out


def _literal(items: list[Value], step: str) -> Value:
    """``torch.tensor([…])`` of numbers, some of which may be data."""
    parts = flatten(items)
    if any(not v.constant for v in parts):
        return _join("stack", items, step)
    values = [v.known for v in parts]
    known = all(isinstance(v, int | float) for v in values)
    label = best_label([float(v) for v in values]) if known else None
    zero = known and not any(values)
    return Value(shape=(len(values),), label=label, zero=zero)


def _join(op: str, parts: Args, step: str) -> Value:
    """Concatenating a gate with constants makes a gated constant vector."""
    flat = flatten(parts)
    out = union(flat, step)
    if out.constant:
        if op == "one_hot" and flat and isinstance(flat[0].known, int):
            out.label = flat[0].known
        elif op == "one_hot" and flat:
            out.label = flat[0].label
        size = flat[1].known if op == "one_hot" and len(flat) > 1 else None
        out.shape = (size,) if isinstance(size, int) else (2,)
        out.zero = out.zero and op != "one_hot"
        return out
    if out.gate is not None and out.narrow and not out.learned:
        out.gated = out.gate
    if op in ("cat", "stack", "concat") and any(v.learned for v in flat):
        out.gated = None
    return out


def _fill(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    target = args[0] if args else Value()
    rest = list(args[1:]) + list(named.values())
    if op in ("masked_fill", "masked_scatter") and len(args) > 2:
        return sinks.choose(args[1], args[2], target, step)
    if op in ("copy", "fill", "zero", "set_"):
        value = rest[0] if rest else number(0)
        return sinks.assign(target, value, None, step)
    if op in ("select_scatter", "slice_scatter") and len(args) >= 2:
        place = args[3].known if len(args) > 3 else None
        view = target.copy(base=target, place=place if isinstance(place, int) else None)
        return sinks.assign(view, args[1], None, step)
    keys = flatten(rest[:-1])
    value = rest[-1] if rest else Value()
    if op == "index_put" and len(args) >= 3:
        keys, value = flatten([args[1]]), args[2]
    elif op in ("scatter", "scatter_add", "index_fill", "index_add", "index_copy"):
        keys, value = flatten(args[2:3]), args[3] if len(args) > 3 else named.get("value", Value())
    return sinks.assign(target, value, keys, step)


_SPECIAL: Mapping[str, Callable[..., Value]] = {
    "mul": _multiply,
    "multiply": _multiply,
    "div": _multiply,
    "divide": _multiply,
    "true_divide": _multiply,
    "add": _add,
    "sub": _add,
    "subtract": _add,
    "rsub": _add,
    "__iadd__": _add,
    "addcmul": _addc,
    "addcdiv": _addc,
    "lerp": _lerp,
    "index": _index,
    "__getitem__": _index,
}
