"""How fast one change to every image raises a class, to first order: a search of a single step.

The trigger of a backdoor moves all images towards the target by the same change, so that the
gradients of the target's margin point the same way on different images, and their mean is long for
what is missing. This is the linear estimate of a universal perturbation's size (Moosavi-Dezfooli et
al., 2017), for all classes at once; it also sees faint patterns over the whole image, which no
small patch imitates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.inversion.search import CHUNK_VALUES, Logits

IMAGES = 48
"""Images of other classes a class is judged by."""

_SMALL = 1e-9
_LEAST = 16
"""Images passed at once however large they are."""


@dataclass(frozen=True, slots=True)
class Slopes:
    """Per class (K,), NaN where no image of another class was there or the budget ended first.

    `steep` is log(|mean gradient| / missing margin), the larger the smaller a universal change
    would do; `alike` the length of the mean of the gradients' directions, 0 to 1.
    """

    steep: NDArray[np.float64]
    alike: NDArray[np.float64]
    passes: int
    complete: bool


def slopes(
    logits: Logits,
    images: Tensor,
    classes: int,
    *,
    most: int = IMAGES,
    spent: Callable[[], bool] = lambda: False,
) -> Slopes:
    """From float32 `images` (N, C, H, W) in 0..1; for class t those the network gives another."""
    piece = max(_LEAST, CHUNK_VALUES // (16 * int(np.prod(images.shape[1:]))))
    with torch.no_grad():
        labels = torch.cat([logits(part).argmax(1) for part in torch.split(images, piece)])
    steep, alike = np.full(classes, np.nan), np.full(classes, np.nan)
    passes, complete = 0, True
    together = max(1, piece // most)
    for first in range(0, classes, together):
        if spent():
            complete = False
            break
        group = range(first, min(first + together, classes))
        rows = {t: torch.nonzero(labels != t)[:most, 0] for t in group}
        chosen = torch.cat(list(rows.values()))
        goals = torch.cat([torch.full_like(at, t) for t, at in rows.items()])
        if not len(chosen):
            continue
        parts = [
            _margin(logits, images[at], goal)
            for at, goal in zip(torch.split(chosen, piece), torch.split(goals, piece), strict=True)
        ]
        flat, margin = (torch.cat(column) for column in zip(*parts, strict=True))
        passes += len(chosen)
        for target in group:
            mine = goals == target
            if bool(mine.any()):
                steep[target], alike[target] = _statistics(flat[mine], margin[mine])
    return Slopes(steep, alike, passes, complete)


def _statistics(flat: Tensor, margin: Tensor) -> tuple[float, float]:
    """`steep` and `alike` of one class from its images' gradients and margins."""
    length = flat.norm(dim=1, keepdim=True)
    alike = float((flat / length.clamp_min(_SMALL)).mean(0).norm())
    missing = max(_SMALL, -float(margin.mean()))
    return float(torch.log(flat.mean(0).norm().clamp_min(_SMALL))) - float(np.log(missing)), alike


def _margin(logits: Logits, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients (N, C*H*W), float64, of each image's margin of its target (N,), and the margins."""
    leaf = images.detach().requires_grad_(True)
    scores = logits(leaf)
    column = targets[:, None]
    margin = scores.gather(1, column)[:, 0] - scores.scatter(1, column, -torch.inf).amax(1)
    (gradient,) = torch.autograd.grad(margin.sum(), leaf)
    return gradient.flatten(1).double(), margin.detach()
