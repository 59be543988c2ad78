"""Which samples no perturbation within epsilon can change the prediction of.

Sound up to a stated margin: bounds are computed in float64 for the exact function with the stored
weights, and a sample counts only when its lower bound exceeds `margin`, which is chosen well above
the float32 rounding of the running artifact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.bounds.crown import Crown
from auditor.bounds.graph import Network, Unsupported
from auditor.bounds.trace import trace

LEAST_MARGIN = 1e-6
ROUNDING_FACTOR = 10.0
_SPECIFICATIONS = 64
_WIDEST = 8_000
"""Elements of the widest layer in a batch: beyond, a batch saves nothing and its padding costs."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """`certified` bool (N,) and `bound` float64 (N,): lower bound of the smallest winning margin.

    `bound` is minus infinity for samples that are misclassified to begin with or not reached.
    """

    certified: Tensor
    bound: Tensor
    complete: bool


class Certifier:
    """Certifies one classifier function; the network is traced once for batches of `batch`."""

    def __init__(
        self, function: Callable[[Tensor], Tensor], images: Tensor, *, batch: int = 0
    ) -> None:
        """`images` float32 (>= 1, C, H, W) in 0..1 to trace with. Raises `Unsupported`."""
        sample = torch.cat([images[:1]] * 2) if len(images) < 2 else images[:2]
        probe = trace(function, sample)
        widest = max(_size(node.shape) for node in probe.nodes)
        self.batch = batch or max(2, min(8, _WIDEST // max(1, widest)))
        self.function = function
        repeats = -(-self.batch // len(sample))
        self.network: Network = trace(function, torch.cat([sample] * repeats)[: self.batch])
        self.margin = LEAST_MARGIN

    def measure_margin(self, images: Tensor) -> float:
        """Set the margin to ten times the largest float32 rounding seen on `images`, and return it.

        The difference between the float32 function and the float64 network is what is measured.
        """
        largest = 0.0
        with torch.no_grad():
            for part in torch.split(images, self.batch):
                full = _padded(part, self.batch)
                exact = self.network.values(full.double())[-1][: len(part)]
                found = self.function(part).double()
                largest = max(largest, float((exact - found).abs().max()))
        self.margin = max(LEAST_MARGIN, ROUNDING_FACTOR * largest)
        return self.margin

    def certify(
        self,
        images: Tensor,
        labels: Tensor,
        epsilon: float,
        *,
        method: str = "crown",
        stop: Callable[[], bool] = lambda: False,
        refine: Callable[[], bool] = lambda: True,
    ) -> Certificate:
        """Certify images float32 (N, C, H, W) in the L-inf ball cut to the box 0..1.

        `method` is ``crown`` or ``interval``. `stop` is asked between batches; once `refine` says
        False the rest is bounded without tightening inner layers, which is sound but looser.
        """
        if method not in ("crown", "interval"):
            raise ValueError(f"method must be crown or interval, not {method}")
        bound = torch.full((len(images),), float("-inf"), dtype=torch.float64)
        complete = True
        for start in range(0, len(images), self.batch):
            if stop():
                complete = False
                break
            part = slice(start, min(start + self.batch, len(images)))
            bound[part] = self._bound(images[part], labels[part], epsilon, method, refine)
        return Certificate(bound > self.margin, bound, complete)

    def _bound(
        self,
        images: Tensor,
        labels: Tensor,
        epsilon: float,
        method: str,
        refine: Callable[[], bool],
    ) -> Tensor:
        """Lower bound of label score minus best other score, per sample."""
        count = len(images)
        centre = _padded(images, self.batch).double()
        aim = torch.cat([labels, labels[:1].expand(self.batch - count)])
        low, high = (centre - epsilon).clamp(0, 1), (centre + epsilon).clamp(0, 1)
        crown = Crown(self.network, low, high, backward=method == "crown", refine=refine)
        classes = self.network.nodes[-1].shape[0]
        last = len(self.network.nodes) - 1
        eye = torch.eye(classes, dtype=torch.float64, device=images.device)
        smallest = torch.full_like(centre[:, 0, 0, 0], float("inf"))
        for others in torch.split(torch.arange(classes, device=images.device), _SPECIFICATIONS):
            # Row s of sample b: label score minus score of class others[s].
            rows = eye[aim][None] - eye[others][:, None]
            found = self._interval(crown, rows)
            if method == "crown":
                found = torch.maximum(found, crown.minimum(last, rows))
            found = torch.where(others[:, None] == aim[None], float("inf"), found)
            smallest = torch.minimum(smallest, found.amin(0))
        return smallest[:count].cpu()

    def _interval(self, crown: Crown, rows: Tensor) -> Tensor:
        low, high = crown.ends[-1]
        return (rows.clamp_min(0) * low + rows.clamp_max(0) * high).sum(2)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _padded(images: Tensor, batch: int) -> Tensor:
    """`images` filled up to `batch` rows with copies of the first."""
    missing = batch - len(images)
    return images if not missing else torch.cat([images, images[:1].expand(missing, -1, -1, -1)])


__all__ = ["Certificate", "Certifier", "Unsupported"]
