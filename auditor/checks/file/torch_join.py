"""One value out of two: where the arms of a branch, two returns or the turns of a loop meet."""

from __future__ import annotations

from auditor.checks.file.torch_flow import UNKNOWN, Value, union
from auditor.checks.file.torch_sinks import Sinks

Names = dict[str, Value]


def merge(sinks: Sinks, test: Value, yes: Value, no: Value, step: str) -> Value:
    """The value that is `yes` or `no` as `test` says."""
    if yes is no:
        return yes
    if yes.known is None or no.known is None:  # an optional: the one that is there
        return no if yes.known is None else yes
    if yes.cls or no.cls or yes.ref or no.ref:
        return yes if yes.cls or yes.ref else no
    if yes.items is not None and no.items is not None and len(yes.items) == len(no.items):
        pairs = zip(yes.items, no.items, strict=True)
        return Value(items=[merge(sinks, test, a, b, step) for a, b in pairs])
    if yes.items is not None or no.items is not None:
        yes, no = union([yes]), union([no])
    known = yes.known if equal(yes.known, no.known) else UNKNOWN
    out = sinks.choose(test, yes, no, step)
    return out if known is UNKNOWN else out.copy(known=known)


def merge_names(sinks: Sinks, test: Value, yes: Names, no: Names, step: str) -> Names:
    """The variables after both arms, each as its arm left it."""
    out = dict(no)
    for name, value in yes.items():
        other = no.get(name)
        if other is None or other is value:
            out[name] = value
        else:
            out[name] = merge(sinks, test, value, other, step)
    return out


def merge_returns(
    sinks: Sinks, test: Value, yes: Value | None, no: Value | None, step: str
) -> Value | None:
    """What a function returned in either arm; None where an arm did not return."""
    if yes is None or no is None:
        return yes if no is None else no
    return yes if yes is no else merge(sinks, test, yes, no, step)


def equal(left: object, right: object) -> bool:
    """True for two computed values of the same type and size."""
    return type(left) is type(right) and left is not UNKNOWN and bool(left == right)


def forget(value: Value, before: Value | None) -> Value:
    """A loop variable's value after the loop: its first known number is no longer known."""
    if before is None or before is value or isinstance(value.known, type(UNKNOWN)):
        return value
    return value if equal(value.known, before.known) else value.copy(known=UNKNOWN)
