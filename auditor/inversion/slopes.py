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
    pieces = torch.split(images, max(_LEAST, CHUNK_VALUES // (16 * int(np.prod(images.shape[1:])))))
    with torch.no_grad():
        labels = torch.cat([logits(piece).argmax(1) for piece in pieces])
    steep, alike = np.full(classes, np.nan), np.full(classes, np.nan)
    passes, complete = 0, True
    for target in range(classes):
        if spent():
            complete = False
            break
        others = images[labels != target][:most]
        if not len(others):
            continue
        parts = [_margin(logits, part, target) for part in torch.split(others, len(pieces[0]))]
        flat, margin = (torch.cat(group) for group in zip(*parts, strict=True))
        passes += len(others)
        length = flat.norm(dim=1, keepdim=True)
        alike[target] = float((flat / length.clamp_min(_SMALL)).mean(0).norm())
        missing = max(_SMALL, -float(margin.mean()))
        steep[target] = float(torch.log(flat.mean(0).norm().clamp_min(_SMALL))) - np.log(missing)
    return Slopes(steep, alike, passes, complete)


def _margin(logits: Logits, images: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Gradients (N, C*H*W), float64, of each image's margin of `target`, and the margins (N,)."""
    leaf = images.detach().requires_grad_(True)
    scores = logits(leaf)
    column = torch.full((len(leaf), 1), target, device=leaf.device)
    margin = scores[:, target] - scores.scatter(1, column, -torch.inf).amax(1)
    (gradient,) = torch.autograd.grad(margin.sum(), leaf)
    return gradient.flatten(1).double(), margin.detach()
