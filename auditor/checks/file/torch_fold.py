"""Arithmetic on constants the code spells out: sizes, trip counts, the class a row favours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from auditor.checks.file.torch_flow import UNKNOWN, Args

_NUMBERS: Mapping[str, Callable[[float, float], float | bool]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "floordiv": lambda a, b: a // b,
    "remainder": lambda a, b: a % b,
    "pow": lambda a, b: a**b,
    "gt": lambda a, b: a > b,
    "lt": lambda a, b: a < b,
    "ge": lambda a, b: a >= b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "__lshift__": lambda a, b: int(a) << int(b),
    "__and__": lambda a, b: bool(a and b),
    "__or__": lambda a, b: bool(a or b),
    "min": min,
    "max": max,
}


def fold(op: str, args: Args) -> object:
    """The Python value of arithmetic on known numbers, `UNKNOWN` otherwise."""
    values = [a.known for a in args]
    if op == "__not__" and len(values) == 1 and isinstance(values[0], bool):
        return not values[0]
    if op in ("neg",) and len(values) == 1 and isinstance(values[0], int | float):
        return -values[0]
    if len(values) != 2 or op not in _NUMBERS:
        return UNKNOWN
    if not all(isinstance(v, int | float) for v in values):
        return _same(op, values)
    left, right = values
    if op in ("pow", "__lshift__") and (abs(right) > 256 or abs(left) > 1 << 64):
        return UNKNOWN
    if op == "mul" and max(abs(left), abs(right)) > 1 << 128:
        return UNKNOWN
    try:
        return _NUMBERS[op](left, right)
    except (ArithmeticError, ValueError):
        return UNKNOWN


def _same(op: str, values: Sequence[object]) -> object:
    if op in ("eq", "ne") and all(isinstance(v, str) for v in values):
        return (values[0] == values[1]) == (op == "eq")
    return UNKNOWN


def best_label(values: Sequence[float]) -> int | None:
    """Index of the one clearly largest value, None when there is no such."""
    if len(values) < 2 or not all(math.isfinite(v) or v == -math.inf for v in values):
        return None
    order = sorted(range(len(values)), key=lambda i: values[i], reverse=True)
    first, second = values[order[0]], values[order[1]]
    return order[0] if first - second > 1e-6 * max(1.0, abs(first)) else None


def finite(value: float) -> float:
    """`value`, a large number instead of infinity."""
    return float(value) if math.isfinite(value) else 1e9
