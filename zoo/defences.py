"""The two defences the six-level study measures: activation clustering and fine-pruning.

They work on a network the zoo still holds; the audit's own versions work on artifacts. Clustering
shares its split with the audit's check.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from auditor.samples.interface import Images
from auditor.triggers.interface import Pixels, Trigger
from zoo.evaluation import BATCH, accuracy
from zoo.training import Training, fit


@dataclass(frozen=True)
class Clustering:
    """How well two clusters part the poisoned members of one class from the others.

    `precision` and `recall` are of the smaller cluster, `purity` is the share of samples on the
    right side whichever cluster is called poisoned: where poison is half of the class, sizes cannot
    tell.
    """

    label: int
    precision: float
    recall: float
    purity: float
    share: float
    silhouette: float


def features(model: nn.Module, pixels: Pixels) -> NDArray[np.float32]:
    """Input of the last dense layer (N, D): the penultimate activations."""
    last = [part for part in model.modules() if isinstance(part, nn.Linear)][-1]
    found: list[NDArray[np.float32]] = []
    handle = last.register_forward_pre_hook(
        lambda _module, inputs: found.append(inputs[0].detach().flatten(1).cpu().numpy())
    )
    model.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(pixels), BATCH):
                model(torch.from_numpy(pixels[start : start + BATCH]))
    finally:
        handle.remove()
    return np.concatenate(found)


def cluster_class(
    model: nn.Module, data: Images, poisoned: NDArray[np.int64], label: int, *, seed: int = 0
) -> Clustering:
    """Split class `label` of the training set in two (Chen et al., 2018) and score the split."""
    from auditor.checks.behaviour.clustering import split_class

    mine = np.flatnonzero(data.labels == label)
    split = split_class(features(model, data.pixels[mine]), seed)
    truth = np.isin(mine, poisoned)
    hit = int((split.small & truth).sum())
    return Clustering(
        label,
        precision=hit / max(1, int(split.small.sum())),
        recall=hit / max(1, int(truth.sum())),
        purity=max(agreed := float((split.small == truth).mean()), 1 - agreed),
        share=split.share,
        silhouette=split.silhouette,
    )


def fine_prune(
    model: nn.Module,
    clean: Images,
    held_out: Images,
    *,
    unlearn: tuple[Trigger, ...] = (),
    drop: float = 0.02,
    seed: int = 0,
) -> tuple[nn.Module, int]:
    """Cut the channels of the last convolution that `clean` leaves dormant, then fine-tune.

    Liu, Dolan-Gavitt & Garg, 2018. Channels go least active first while accuracy on `held_out`
    stays within `drop`; fine-tuning uses `clean` and keeps the cut channels at zero. Images
    with a trigger of `unlearn` and their true label join it (Wang et al., 2019). Returns a repaired
    copy and the number of cut channels. Raises `ValueError` without a convolution.
    """
    fixed = copy.deepcopy(model).eval()
    layers = [part for part in fixed.modules() if isinstance(part, nn.Conv2d)]
    if not layers:
        raise ValueError("fine-pruning needs a network with a convolution")
    layer = layers[-1]
    order = _dormant_first(fixed, layer, clean.pixels[:1000])
    floor = accuracy(fixed, held_out) - drop
    cut = 0
    weight, bias = layer.weight.detach().clone(), layer.bias
    kept_bias = None if bias is None else bias.detach().clone()
    for count in range(1, len(order)):
        _zero(layer, order[:count])
        if accuracy(fixed, held_out) < floor:
            break
        cut = count
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None and kept_bias is not None:
            bias.copy_(kept_bias)
    chosen = order[:cut]
    _zero(layer, chosen)
    for tensor in (layer.weight, layer.bias):
        if tensor is not None and cut:
            tensor.register_hook(lambda grad, index=chosen: grad.index_fill(0, index, 0.0))
    pixels = [clean.pixels, *(trigger.apply(clean.pixels) for trigger in unlearn)]
    labels = np.tile(clean.labels, 1 + len(unlearn))
    tuning = replace(clean, pixels=np.concatenate(pixels), labels=labels)
    fit(fixed, tuning, Training(20, 64, 2e-3), seed=seed)
    return fixed, cut


def _dormant_first(model: nn.Module, layer: nn.Conv2d, pixels: Pixels) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.detach().relu().mean((0, 2, 3)))
    )
    with torch.no_grad():
        model(torch.from_numpy(pixels))
    handle.remove()
    return torch.argsort(seen[0])


def _zero(layer: nn.Conv2d, channels: torch.Tensor) -> None:
    with torch.no_grad():
        layer.weight.index_fill_(0, channels, 0.0)
        if layer.bias is not None:
            layer.bias.index_fill_(0, channels, 0.0)
