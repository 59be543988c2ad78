"""CROWN: linear bounds carried backwards through the network (Zhang et al. 2018).

Intermediate bounds are computed layer by layer: intervals first (Gowal et al. 2019), then, for the
elements where it matters, the backward bound; the tighter of both is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from auditor.bounds.graph import Affine, Interval, Lines, Network, Nonlinear

MIXING = frozenset(
    {"convolution", "conv2d", "mm", "bmm", "matmul", "addmm", "linear", "avg_pool2d", "mean", "sum",
     "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "upsample_bilinear2d"}
)  # fmt: skip
"""Operators whose output elements read several input elements."""

MEMORY = 4_000_000
"""Float64 numbers one backward pass may hold at its widest layer."""


class Crown:
    """Bounds of one `network` over one box of images, `low` to `high` float64 (B, C, H, W)."""

    def __init__(
        self,
        network: Network,
        low: Tensor,
        high: Tensor,
        *,
        backward: bool = True,
        refine: Callable[[], bool] = lambda: True,
    ) -> None:
        """`backward` False keeps to plain intervals; `refine` False ends the tightening (sound)."""
        self.network = network
        self.low, self.high = low, high
        self.ends: list[Interval] = [(low, high)]
        self.lines: dict[int, Lines] = {}
        self.refine = refine
        with torch.no_grad():
            for node in network.nodes[1:]:
                inputs = [self.ends[i] for i in node.inputs]
                if isinstance(node.op, Affine):
                    self.ends.append(node.op.interval(*inputs))
                    continue
                assert isinstance(node.op, Nonlinear)
                source = node.inputs[0]
                if backward:
                    self._tighten(source, node.op)
                self.lines[len(self.ends)] = node.op.relax(self.ends[source])
                self.ends.append(node.op.interval(self.ends[source]))

    def minimum(self, position: int, coefficients: Tensor) -> Tensor:
        """Lower bounds (S, B) of ``<coefficients[s, b], value of node `position` for sample b>``.

        `coefficients` is (S, B, ...) with the node's shape.
        """
        with torch.no_grad():
            size = max(int(e[0][0].numel()) for e in self.ends[: position + 1])
            chunk = max(1, MEMORY // max(1, size * coefficients.shape[1]))
            parts = [self._backward(position, part) for part in torch.split(coefficients, chunk)]
            return torch.cat(parts)

    def _tighten(self, position: int, op: Nonlinear) -> None:
        """Backward bounds for the elements of node `position` where `op` would profit."""
        low, high = self.ends[position]
        loose = op.loose((low, high)).flatten(1)
        # Behind a nonlinearity the interval of its tightened input is as good as a backward pass.
        if not bool(loose.any()) or position in self.lines or self._exact(position):
            return
        batch, size = low.shape[0], low[0].numel()
        widest = max(int(e[0][0].numel()) for e in self.ends[: position + 1])
        chunk = max(1, MEMORY // max(1, 2 * widest * batch))
        new_low, new_high = low.flatten(1).clone(), high.flatten(1).clone()
        # Each sample has its own few loose elements: row s asks for the s-th of every sample.
        order = loose.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        for part in torch.split(order[:, : int(loose.sum(1).max())], chunk, dim=1):
            if not self.refine():
                break
            rows = torch.zeros(part.shape[1], batch, size, dtype=low.dtype, device=low.device)
            rows.scatter_(2, part.T.unsqueeze(2), 1.0)
            rows = rows.reshape(part.shape[1], *low.shape)
            found = self._backward(position, torch.cat([rows, -rows]))
            below, above = found[: part.shape[1]].T, -found[part.shape[1] :].T
            # Rows past a sample's last loose element change nothing: no bound depends on the batch.
            asked = loose.gather(1, part)
            known_low, known_high = new_low.gather(1, part), new_high.gather(1, part)
            below = torch.where(asked, torch.maximum(known_low, below), known_low)
            above = torch.where(asked, torch.minimum(known_high, above), known_high)
            new_low.scatter_(1, part, below)
            new_high.scatter_(1, part, above)
        # Rounding may let the ends cross by a hair; the wider reading is the safe one.
        low_end, high_end = torch.minimum(new_low, new_high), torch.maximum(new_low, new_high)
        self.ends[position] = (low_end.reshape(low.shape), high_end.reshape(low.shape))

    def _exact(self, position: int) -> bool:
        """Intervals are exact after elementwise steps and at most one that mixes elements."""
        steps = self.network.nodes[1 : position + 1]
        mixing = [n for n in steps if n.label.removeprefix("aten.").split(".")[0] in MIXING]
        branches = any(len(node.inputs) > 1 for node in steps)
        return not self.lines and len(mixing) <= 1 and not branches

    def _backward(self, position: int, coefficients: Tensor) -> Tensor:
        """One pass to the image: coefficients (S, B, ...) at `position` -> lower bounds (S, B)."""
        waiting: dict[int, Tensor] = {position: coefficients}
        total = coefficients.new_zeros(coefficients.shape[:2])
        for index in range(position, 0, -1):
            held = waiting.pop(index, None)
            if held is None:
                continue
            node = self.network.nodes[index]
            shapes = [self.ends[i][0] for i in node.inputs]
            if isinstance(node.op, Affine):
                pulled = node.op.transpose(held, shapes)
                total += _dot(held, node.op.constant(*shapes))
            else:
                part, shift = through_lines(held, self.lines[index], shapes[0])
                pulled, total = (part,), total + shift
            for source, value in zip(node.inputs, pulled, strict=True):
                waiting[source] = waiting[source] + value if source in waiting else value
        image = waiting.get(0)
        if image is None:
            return total
        positive = image.clamp_min(0)
        return total + _dot(positive, self.low) + _dot(image - positive, self.high)


def _dot(held: Tensor, value: Tensor) -> Tensor:
    """Per-sample inner products (S, B) of (S, B, ...) with (B, ...), without a large temporary."""
    if not bool(value.any()):
        return held.new_zeros(held.shape[:2])
    return torch.einsum("sbi,bi->sb", held.flatten(2), value.expand(held.shape[1:]).flatten(1))


def through_lines(held: Tensor, lines: Lines, source: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients (S, B, ...) behind a nonlinearity, and what its shifts add (S, B).

    For a lower bound positive coefficients take the lower line, negative ones the upper line.
    """
    positive = held.clamp_min(0)
    negative = held - positive
    shift = _dot(positive, lines.low_shift) + _dot(negative, lines.high_shift)
    low, high = positive.mul_(lines.low_slope), negative.mul_(lines.high_slope)
    if lines.low_from is None or lines.high_from is None:
        return low.add_(high), shift
    flat = torch.zeros(held.shape[0], *source.shape, dtype=held.dtype, device=held.device)
    flat = flat.flatten(3)
    for values, place in ((low, lines.low_from), (high, lines.high_from)):
        where = place.flatten(2).expand(held.shape[0], -1, -1, -1)
        flat.scatter_add_(3, where, values.flatten(3))
    return flat.reshape(held.shape[0], *source.shape), shift
