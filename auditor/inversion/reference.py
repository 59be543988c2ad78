"""How hard each class is by nature: a linear model of the same images, to be inverted as well.

Some classes are easy targets in any network (a bag in Fashion-MNIST fills the image, a one in MNIST
does not), so a small trigger alone says little. A multinomial logistic regression cannot hold the
suspect's backdoor; the size of *its* triggers is the yardstick per class.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from auditor.inversion.search import Logits
from auditor.samples.interface import Images

_SIDE = 16


def linear_reference(
    samples: Images, classes: int, seed: int, device: str = "cpu"
) -> Logits | None:
    """Logits (N, `classes`) of a logistic regression on images averaged down to about 16 x 16.

    None when the samples hold fewer than two classes. Classes without samples score far below all.
    """
    from sklearn.linear_model import LogisticRegression

    present = np.unique(samples.labels)
    if len(present) < 2:
        return None
    step = max(1, min(samples.pixels.shape[2:]) // _SIDE)
    fitted = LogisticRegression(C=1.0, max_iter=200, random_state=seed)
    with torch.no_grad():
        small = _reduce(torch.from_numpy(samples.pixels), step)
    fitted.fit(small.numpy(), samples.labels)
    weight, bias = _rows(fitted.coef_, fitted.intercept_, present, classes)
    matrix = torch.from_numpy(weight).to(device)
    offset = torch.from_numpy(bias).to(device)

    def logits(images: Tensor) -> Tensor:
        return functional.linear(_reduce(images, step), matrix, offset)

    return logits


def _reduce(images: Tensor, step: int) -> Tensor:
    return functional.avg_pool2d(images, step).flatten(1) if step > 1 else images.flatten(1)


def _rows(
    coefficients: NDArray[np.float64],
    intercept: NDArray[np.float64],
    present: NDArray[np.int64],
    classes: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One row a class; scikit-learn gives a single row for two classes."""
    if len(present) == 2:
        coefficients = np.concatenate([-coefficients / 2, coefficients / 2])
        intercept = np.concatenate([-intercept / 2, intercept / 2])
    weight = np.zeros((classes, coefficients.shape[1]), np.float32)
    bias = np.full(classes, -1e4, np.float32)
    weight[present], bias[present] = coefficients, intercept
    return weight, bias
