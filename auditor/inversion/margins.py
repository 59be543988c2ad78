"""Evidence without any sample: the largest margin of each class, and statistics of the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.inversion.search import Logits

if TYPE_CHECKING:
    from auditor.classifier import Classifier

_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class Margins:
    """`values` (K,): largest logit margin reached per class; `p` of the largest under MM-BD's null.

    `complete` is False when the budget ended the ascent early.
    """

    values: NDArray[np.float64]
    target: int
    p: float
    robust_z: float
    steps: int
    passes: int
    complete: bool


def maximum_margins(
    logits: Logits,
    shape: tuple[int, int, int],
    classes: int,
    *,
    starts: int = 6,
    steps: int = 60,
    rate: float = 0.05,
    seed: int = 0,
    device: str = "cpu",
    spent: Callable[[], bool] = lambda: False,
) -> Margins:
    """MM-BD (Wang et al., IEEE S&P 2024), shortened: ascend the margin of each class from noise.

    For each class, `starts` uniform noise images (paper: 30) ascend ``z_t - max z_k`` in the box
    0..1, here by sign steps of falling size instead of 300 small gradient steps. Null: a gamma
    distribution fitted to all maxima but the largest; ``p = 1 - F(max) ** K``.
    """
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand((classes * starts, *shape), generator=draw).to(device)
    goals = torch.arange(classes, device=device).repeat_interleave(starts)
    best = torch.full((classes * starts,), -torch.inf, device=device)
    done = 0
    for number in range(steps):
        leaf = images.requires_grad_(True)
        scores = logits(leaf)
        own = scores.gather(1, goals[:, None])[:, 0]
        other = scores.scatter(1, goals[:, None], -torch.inf).amax(1)
        margin = own - other
        best = torch.maximum(best, margin.detach())
        (gradient,) = torch.autograd.grad(margin.sum(), leaf)
        step = 4 * rate * (1 - number / steps)
        images = (leaf.detach() + step * gradient.sign()).clamp(0.0, 1.0)
        done += 1
        if spent():
            break
    values = best.reshape(classes, starts).amax(1).double().cpu().numpy()
    top = int(values.argmax())
    return Margins(
        values,
        top,
        _gamma_p(values),
        robust_z(values, top),
        done,
        done * classes * starts,
        done == steps,
    )


def _gamma_p(values: NDArray[np.float64]) -> float:
    """MM-BD's order-statistic p-value of the largest; 1 when a null cannot be fitted."""
    from scipy import stats

    rest = np.sort(values)[:-1]
    if len(rest) < 4 or rest.std() < 1e-9:
        return 1.0
    shift = min(0.0, float(rest.min())) - 1e-6
    mean, variance = float((rest - shift).mean()), float(rest.var())
    shape, scale = mean**2 / variance, variance / mean
    below = float(stats.gamma.cdf(values.max() - shift, shape, scale=scale))
    return float(1.0 - below ** len(values))


def robust_z(values: NDArray[np.float64], index: int) -> float:
    """How far ``values[index]`` lies above the median, in robust standard deviations."""
    middle = float(np.median(values))
    spread = _MAD * float(np.median(np.abs(values - middle)))
    return float((values[index] - middle) / max(spread, 1e-9 + 1e-3 * abs(middle)))


def head_rows(classifier: Classifier) -> Tensor | None:
    """The last layer's weight (K, ...) with the classes first; None where the twin shows none."""
    twin = classifier.twin
    head = getattr(twin, "head", None)
    if twin is None or head is None or head.weight is None or head.weight_axis is None:
        return None
    weight: Tensor = twin.parameters[head.weight]
    if weight.shape[head.weight_axis] != classifier.classes:
        return None
    return weight.movedim(head.weight_axis, 0)


def head_statistics(weight: Tensor) -> dict[str, NDArray[np.float64]]:
    """Per-class statistics of the last layer's rows (K, D) (Trojan Signatures, Fields et al. 2021).

    ``mean`` and ``norm`` of a row, and ``apart``: 1 - its mean cosine with the other rows.
    """
    rows = weight.detach().double().cpu().flatten(1).numpy()
    norms = np.linalg.norm(rows, axis=1)
    unit = rows / np.maximum(norms, 1e-12)[:, None]
    cosine = unit @ unit.T
    others = (cosine.sum(1) - np.diag(cosine)) / max(1, len(rows) - 1)
    return {"mean": rows.mean(1), "norm": norms, "apart": 1.0 - others}


def channel_lipschitz(weight: Tensor, axis: int) -> NDArray[np.float64]:
    """Largest singular value of each output channel's kernel (CLP, Zheng et al., ECCV 2022).

    `weight` (out, in, k, k) with the output channels on `axis`; norm scales are not folded in.
    """
    kernels = weight.detach().float().movedim(axis, 0).cpu()
    matrices = kernels.reshape(kernels.shape[0], kernels.shape[1], -1)
    values: NDArray[np.float64] = torch.linalg.matrix_norm(matrices, ord=2).double().numpy()
    return values
