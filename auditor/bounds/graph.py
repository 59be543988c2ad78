"""The network as bounds need it: affine pieces, and nonlinearities that know their relaxation.

All values are float64 and batched: axis 0 of every value is the sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

Interval: TypeAlias = tuple[Tensor, Tensor]
"""Lower and upper ends, same shape."""


class Unsupported(Exception):
    """The network holds something no bound is implemented for; the message names it."""


class Affine:
    """`function` of one or more values, affine in all of them together.

    `magnitude` is the same map with the absolute values of its coefficients and no constant part:
    it carries interval radii. `pull` is the transpose of the linear part, from coefficients
    (S, B, ...) and the one input's shape (B, ...); without it automatic differentiation is used,
    which is right for any operator but slower.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        magnitude: Callable[..., Tensor] | None = None,
        pull: Callable[[Tensor, torch.Size], Tensor] | None = None,
    ) -> None:
        self.function = function
        self._magnitude = magnitude
        self._pull = pull

    def forward(self, *values: Tensor) -> Tensor:
        """The value itself."""
        return self.function(*values)

    def constant(self, *values: Tensor) -> Tensor:
        """The constant part: the function at zero."""
        return self.function(*[torch.zeros_like(value) for value in values])

    def interval(self, *ends: Interval) -> Interval:
        """Exact bounds of each output element over the boxes `ends`."""
        centre = self.function(*[(low + high) / 2 for low, high in ends])
        radii = [(high - low) / 2 for low, high in ends]
        if self._magnitude is not None:
            radius = self._magnitude(*radii)
        else:  # no negative coefficients
            radius = self.function(*radii) - self.constant(*radii)
        return centre - radius, centre + radius

    def transpose(self, coefficients: Tensor, shapes: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """From coefficients (S, B, ...) of the output to those of each input.

        `shapes` are tensors of the inputs' shape; their values do not matter.
        """
        if self._pull is not None and len(shapes) == 1:
            return (self._pull(coefficients, shapes[0].shape),)
        pull = torch.func.vjp(self.function, *[torch.zeros_like(s) for s in shapes])[1]
        pulled: tuple[Tensor, ...] = torch.func.vmap(pull)(coefficients)
        return pulled


@dataclass(frozen=True, slots=True)
class Lines:
    """Linear bounds of a nonlinearity: ``low_slope x + low_shift <= f(x) <= high_slope x + ...``.

    Without `low_from`/`high_from` the slopes are elementwise. With them (max pooling) output
    element i depends on the flat input element ``low_from[i]`` of its channel plane.
    """

    low_slope: Tensor
    low_shift: Tensor
    high_slope: Tensor
    high_shift: Tensor
    low_from: Tensor | None = None
    high_from: Tensor | None = None

    def rows(self, index: Tensor) -> Lines:
        """The samples at `index`."""
        pick = (None if t is None else t[index] for t in (self.low_from, self.high_from))
        slopes = (self.low_slope, self.low_shift, self.high_slope, self.high_shift)
        return Lines(*[t[index] for t in slopes], *pick)


class Nonlinear(ABC):
    """A function of one value with an interval form and linear bounds on an interval."""

    @abstractmethod
    def forward(self, value: Tensor) -> Tensor:
        """The value itself."""

    @abstractmethod
    def interval(self, ends: Interval) -> Interval:
        """Bounds of each output element."""

    @abstractmethod
    def relax(self, ends: Interval) -> Lines:
        """Linear bounds valid wherever the input lies within `ends`."""

    def loose(self, ends: Interval) -> Tensor:
        """Bool, shaped like the input: elements whose tighter bounds would help."""
        return ends[1] > ends[0]


@dataclass(slots=True)
class Node:
    """One step: `inputs` are positions of earlier nodes. The input image is node 0 without `op`."""

    op: Affine | Nonlinear | None
    inputs: tuple[int, ...]
    label: str
    shape: tuple[int, ...] = ()


@dataclass(slots=True)
class Network:
    """Nodes in execution order; the last one holds the class scores (B, K)."""

    nodes: list[Node] = field(default_factory=list)

    def add(self, op: Affine | Nonlinear, inputs: Sequence[int], label: str) -> int:
        """Append a node, return its position."""
        self.nodes.append(Node(op, tuple(inputs), label))
        return len(self.nodes) - 1

    def values(self, images: Tensor) -> list[Tensor]:
        """Every node's value for float64 images (B, C, H, W)."""
        found = [images]
        for node in self.nodes[1:]:
            assert node.op is not None
            found.append(node.op.forward(*[found[i] for i in node.inputs]))
        return found
