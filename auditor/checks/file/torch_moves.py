"""Operators that take, place, join or overwrite values: views and indices, lists, fills."""

from __future__ import annotations

from auditor.checks.file.torch_flow import (
    UNKNOWN,
    Args,
    Named,
    Value,
    bend,
    flatten,
    judges_itself,
    number,
    opens,
    trail_of,
    union,
)
from auditor.checks.file.torch_fold import best_label
from auditor.checks.file.torch_optables import VIEWS
from auditor.checks.file.torch_sinks import Sinks


def index(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
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
    out = move("select" if places else op, args[:1], named, step, sinks)
    out.placed = out.placed or not table.constant
    return out


def _pick(items: list[Value], key: Value) -> Value:
    if isinstance(key.known, int) and -len(items) <= key.known < len(items):
        return items[key.known]
    return union(items) if items else Value()


def move(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    """Views, copies, casts and selections: the same values, elsewhere."""
    source = args[0] if args else Value()
    if source.items is not None and op in ("tensor", "as_tensor", "NumToTensor"):
        return _literal(source.items, step)
    if source.items is not None and op not in ("list", "annotate", "unchecked_cast"):
        source = union(source.items, step)
    if op in ("index_select", "take", "gather", "take_along_dim"):
        return index(op, [source, *args[1:]], named, step, sinks)
    if source.constant and op in ("repeat", "tile", "repeat_interleave"):
        switch = next((v for v in flatten([*args[1:], *named.values()]) if opens(v)), None)
        if switch is not None:  # a stored row, as many times as the gate says
            return switch.copy(gated=switch.gate, label=source.label, shape=source.shape, base=None)
    if op in ("annotate", "unchecked_cast") or source.constant:
        kept = op not in ("select", "slice", "unbind", "chunk", "split", "narrow")
        out = source if kept else source.copy(label=None, known=UNKNOWN)
        return _as_view(op, source, out, args)
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
    return _as_view(op, source, out, args)


def _to_integer(args: Args) -> bool:
    return any(a.known in (0, 1, 2, 3, 4, 11) and a.known is not False for a in args[1:3])


def _place(op: str, out: Value, args: Args, named: Named, step: str) -> None:
    """Fixed places of the input: a slice or index with constant bounds."""
    bounds = [a.known for a in args[2:4]] + [v.known for k, v in named.items() if k != "dim"]
    axis = args[1].known if len(args) > 1 else 0
    if op == "select":
        entry = args[2].known if len(args) > 2 else UNKNOWN
        out.placed = isinstance(entry, int)
        out.picks += 2 if axis not in (0, 1) or (isinstance(entry, int) and entry > 3) else 1
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


def _as_view(op: str, source: Value, out: Value, args: Args) -> Value:
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
        return join("stack", items, step)
    values = [v.known for v in parts]
    known = all(isinstance(v, int | float) for v in values)
    label = best_label([float(v) for v in values]) if known else None
    zero = known and not any(values)
    return Value(shape=(len(values),), label=label, zero=zero)


def join(op: str, parts: Args, step: str) -> Value:
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


def fill(op: str, args: Args, named: Named, step: str, sinks: Sinks) -> Value:
    """Writing into a tensor: masks, scatters and copies."""
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
