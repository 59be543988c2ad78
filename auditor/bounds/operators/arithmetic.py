"""Sums, differences, and products with constants."""

from __future__ import annotations

from typing import Any

from auditor.bounds.convert import (
    Slot,
    Step,
    constants,
    converts,
    only_slot,
    scaled,
)
from auditor.bounds.graph import Affine, Unsupported


def _sum(a: Any, b: Any, sign_a: float, sign_b: float) -> Step:
    """``sign_a a + sign_b b``; either may be constant."""
    if isinstance(a, Slot) and isinstance(b, Slot):
        return Affine(
            lambda x, y: sign_a * x + sign_b * y, lambda x, y: abs(sign_a) * x + abs(sign_b) * y
        ), (a, b)
    if isinstance(a, Slot):
        shift = sign_b * b
        return Affine(
            lambda x: sign_a * x + shift, lambda x: abs(sign_a) * x + 0 * shift, scaled(sign_a)
        ), (a,)
    shift = sign_a * a
    return Affine(
        lambda y: sign_b * y + shift, lambda y: abs(sign_b) * y + 0 * shift, scaled(sign_b)
    ), (b,)


@converts("add.Tensor", "add.Scalar", "add_.Tensor")
def _add(a: Any, b: Any, alpha: float = 1) -> Step:
    return _sum(a, b, 1.0, float(alpha))


@converts("sub.Tensor", "sub.Scalar")
def _sub(a: Any, b: Any, alpha: float = 1) -> Step:
    return _sum(a, b, 1.0, -float(alpha))


@converts("rsub.Scalar", "rsub.Tensor")
def _rsub(a: Any, b: Any, alpha: float = 1) -> Step:
    return _sum(b, a, 1.0, -float(alpha))


@converts("neg.default")
def _neg(a: Any) -> Step:
    return Affine(lambda x: -x, lambda x: x, scaled(-1.0)), (only_slot(a, "neg"),)


@converts("mul.Tensor", "mul.Scalar")
def _mul(a: Any, b: Any) -> Step:
    if isinstance(a, Slot) and isinstance(b, Slot):
        raise Unsupported("product of two values that depend on the image")
    slot, factor = (a, b) if isinstance(a, Slot) else (b, a)
    return Affine(lambda x: x * factor, lambda x: x * abs(factor), scaled(factor)), (slot,)


@converts("div.Tensor", "div.Scalar")
def _div(a: Any, b: Any) -> Step:
    slot = only_slot(a, "division")
    constants([b], "division")
    return Affine(lambda x: x / b, lambda x: x / abs(b), scaled(1 / b)), (slot,)
