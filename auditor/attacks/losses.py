"""Losses that attacks maximise, one value a sample."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (N,) of scores (N, K) against labels (N,)."""
    return functional.cross_entropy(scores, labels, reduction="none")


def margin(scores: Tensor, labels: Tensor) -> Tensor:
    """Best wrong score minus the label's (N,): positive exactly when misclassified.

    Carlini & Wagner 2017. Unlike cross-entropy it does not vanish on saturated outputs.
    """
    true = scores.gather(1, labels[:, None]).squeeze(1)
    others = scores.scatter(1, labels[:, None], float("-inf"))
    return others.amax(1) - true


def target_margin(scores: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Target's score minus the label's (N,)."""
    picked = scores.gather(1, torch.stack([targets, labels], 1))
    return picked[:, 0] - picked[:, 1]


def dlr(scores: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020): scale-free margin; needs 3 classes.

    With two classes the plain margin is returned (the ratio would be constant).
    """
    if scores.shape[1] < 3:
        return margin(scores, labels)
    ordered = scores.sort(1, descending=True).values
    return margin(scores, labels) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


def targeted_dlr(scores: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Targeted DLR (Croce & Hein 2020): needs 4 classes, else the plain target margin."""
    if scores.shape[1] < 4:
        return target_margin(scores, labels, targets)
    ordered = scores.sort(1, descending=True).values
    scale = ordered[:, 0] - 0.5 * (ordered[:, 2] + ordered[:, 3]) + 1e-12
    return target_margin(scores, labels, targets) / scale
