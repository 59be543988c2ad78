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

from auditor.inversion.search import Logits

IMAGES = 48
"""Images of other classes a class is judged by."""

_SMALL = 1e-9


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
    with torch.no_grad():
        labels = logits(images).argmax(1)
    steep, alike = np.full(classes, np.nan), np.full(classes, np.nan)
    passes, complete = 0, True
    for target in range(classes):
        if spent():
            complete = False
            break
        leaf = images[labels != target][:most].detach().requires_grad_(True)
        if not len(leaf):
            continue
        scores = logits(leaf)
        column = torch.full((len(leaf), 1), target, device=leaf.device)
        margin = scores[:, target] - scores.scatter(1, column, -torch.inf).amax(1)
        (gradient,) = torch.autograd.grad(margin.sum(), leaf)
        passes += len(leaf)
        flat = gradient.flatten(1).double()
        length = flat.norm(dim=1, keepdim=True)
        alike[target] = float((flat / length.clamp_min(_SMALL)).mean(0).norm())
        missing = max(_SMALL, -float(margin.detach().mean()))
        steep[target] = float(torch.log(flat.mean(0).norm().clamp_min(_SMALL))) - np.log(missing)
    return Slopes(steep, alike, passes, complete)
