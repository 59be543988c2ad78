"""ReLU, leaky ReLU, sigmoid, tanh and max pooling with their linear relaxations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from auditor.bounds.graph import Interval, Lines, Nonlinear

_BISECTIONS = 40
_TINY = 1e-12


@dataclass(frozen=True)
class Relu(Nonlinear):
    """``max(x, slope * x)`` with 0 <= slope < 1: ReLU, or leaky ReLU.

    Upper line through both ends, lower line of slope 1 or `slope`, whichever leaves the smaller
    area (CROWN-Ada, Zhang et al. 2018).
    """

    slope: float = 0.0

    def forward(self, value: Tensor) -> Tensor:
        """The activation."""
        return torch.where(value > 0, value, self.slope * value)

    def interval(self, ends: Interval) -> Interval:
        """Monotone: the activation of the ends."""
        return self.forward(ends[0]), self.forward(ends[1])

    def loose(self, ends: Interval) -> Tensor:
        """Only elements that can be on either side of zero."""
        return (ends[0] < 0) & (ends[1] > 0)

    def relax(self, ends: Interval) -> Lines:
        """Exact where the sign is known."""
        low, high = ends
        off, on = high <= 0, low >= 0
        width = (high - low).clamp_min(_TINY)
        chord = (self.forward(high) - self.forward(low)) / width
        one, leak = torch.ones_like(low), torch.full_like(low, self.slope)
        slope = torch.where(on, one, torch.where(off, leak, chord))
        shift = torch.where(on | off, torch.zeros_like(low), self.forward(low) - chord * low)
        lower = torch.where(on | (~off & (high > -low)), one, leak)
        return Lines(lower, torch.zeros_like(low), slope, shift)


@dataclass(frozen=True)
class SShape(Nonlinear):
    """Sigmoid or tanh: convex below zero, concave above (CROWN, Zhang et al. 2018)."""

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]

    def forward(self, value: Tensor) -> Tensor:
        """The activation."""
        return self.function(value)

    def interval(self, ends: Interval) -> Interval:
        """Monotone: the activation of the ends."""
        return self.function(ends[0]), self.function(ends[1])

    def relax(self, ends: Interval) -> Lines:
        """Upper line, and the lower one by the symmetry f(-x) = 2 f(0) - f(x)."""
        low, high = ends
        slope, shift = self._upper(low, high)
        mirrored, moved = self._upper(-high, -low)
        twice = 2 * self.function(torch.zeros_like(low))
        return Lines(mirrored, twice - moved, slope, shift)

    def _upper(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and shift of a line above the function on [low, high].

        Concave part: the tangent in the middle. Convex part: the chord. Both: the tangent that
        starts in (low, f(low)), found by bisection from the side that stays above; the chord where
        the interval ends before its point of contact.
        """
        f, slope_at = self.function, self.derivative
        width = (high - low).clamp_min(_TINY)
        chord = (f(high) - f(low)) / width
        near, far = torch.zeros_like(high), high.clamp_min(0)
        for _ in range(_BISECTIONS):
            point = (near + far) / 2
            # The tangent at `point` passes above (low, f(low)) once `point` is far enough out.
            above = slope_at(point) * (low - point) + f(point) >= f(low)
            near, far = torch.where(above, near, point), torch.where(above, point, far)
        reached = slope_at(high) * (low - high) + f(high) >= f(low)
        contact = torch.where(low >= 0, (low + high) / 2, far)
        tangent = (low >= 0) | ((high > 0) & reached)
        slope = torch.where(tangent, slope_at(contact), chord)
        shift = torch.where(tangent, f(contact) - slope * contact, f(low) - chord * low)
        # A point interval, or a chord lost in rounding: the larger end as a constant is safe.
        flat = high - low < 1e-9
        slope = torch.where(flat, torch.zeros_like(slope), slope)
        return slope, torch.where(flat, f(high), shift)


def _sigmoid_slope(value: Tensor) -> Tensor:
    s = torch.sigmoid(value)
    return s * (1 - s)


def _tanh_slope(value: Tensor) -> Tensor:
    return 1 - torch.tanh(value) ** 2


SIGMOID = SShape(torch.sigmoid, _sigmoid_slope)
TANH = SShape(torch.tanh, _tanh_slope)


@dataclass(frozen=True)
class MaxPool(Nonlinear):
    """Two-dimensional max pooling of (B, C, H, W); padding never wins.

    Lower line: the element with the largest lower end. Upper line: the element j with the largest
    upper end, against the largest upper end M of the rest: ``max(x_j, M)`` bounded by its chord
    above ``l_j < M < u_j``, exact when ``M <= l_j``.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    ceil: bool

    def forward(self, value: Tensor) -> Tensor:
        """The pooling."""
        return functional.max_pool2d(
            value, self.kernel, self.stride, self.padding, self.dilation, self.ceil
        )

    def interval(self, ends: Interval) -> Interval:
        """Monotone in every element."""
        return self.forward(ends[0]), self.forward(ends[1])

    def relax(self, ends: Interval) -> Lines:
        """As in the class docstring; indices are into the flattened plane (H * W)."""
        low, high = ends
        best_low, low_from = self._indexed(low)
        top, high_from = self._indexed(high)
        # The runner-up: the same pooling with each window's winner taken out.
        rest = self._runner_up(high, high_from)
        own_low = low.flatten(2).gather(2, high_from.flatten(2)).reshape(top.shape)
        sure = rest <= own_low
        chord = (top - rest) / (top - own_low).clamp_min(_TINY)
        slope = torch.where(sure, torch.ones_like(chord), chord.clamp(0, 1))
        shift = torch.where(sure, torch.zeros_like(top), rest - slope * own_low)
        # Keep the line above `top` at the upper end whatever rounding did to the chord.
        shift = torch.where(sure, shift, torch.maximum(shift, top - slope * top))
        ones = torch.ones_like(best_low)
        return Lines(ones, torch.zeros_like(ones), slope, shift, low_from, high_from)

    def _indexed(self, value: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = functional.max_pool2d(
            value,
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil,
            return_indices=True,
        )
        return found

    def _runner_up(self, high: Tensor, winner: Tensor) -> Tensor:
        """Largest value of each window without the element at `winner`."""
        batch, channels, height, width = high.shape
        rows, columns = winner.shape[2:]
        windows = self._windows(high, rows, columns, float("-inf"))
        plane = torch.arange(height * width, dtype=high.dtype, device=high.device)
        where = self._windows(plane.reshape(1, 1, height, width), rows, columns, -1.0)
        mine = where == winner.reshape(batch, channels, 1, rows * columns)
        # A window of one element has no runner-up: minus infinity, its own line is exact.
        return windows.masked_fill(mine, float("-inf")).amax(2).reshape(winner.shape)

    def _windows(self, value: Tensor, rows: int, columns: int, filler: float) -> Tensor:
        """(B, C, kernel elements, rows * columns), positions outside the plane are `filler`."""
        (kh, kw), (sh, sw) = self.kernel, self.stride
        (ph, pw), (dh, dw) = self.padding, self.dilation
        height, width = value.shape[2:]
        below = max(0, (rows - 1) * sh + (kh - 1) * dh + 1 - height - ph)
        right = max(0, (columns - 1) * sw + (kw - 1) * dw + 1 - width - pw)
        padded = functional.pad(value, (pw, right, ph, below), value=filler)
        parts = [
            padded[:, :, i * dh : i * dh + (rows - 1) * sh + 1 : sh,
                   j * dw : j * dw + (columns - 1) * sw + 1 : sw]
            for i in range(kh)
            for j in range(kw)
        ]  # fmt: skip
        return torch.stack(parts, 2).flatten(3)
