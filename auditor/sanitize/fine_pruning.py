"""Fine-pruning (Liu, Dolan-Gavitt & Garg, RAID 2018): prune dormant channels, then fine-tune.

Channels that clean images leave dormant are where backdoors live. They are cut, least active
first, while held-out accuracy stays near the original; a short fine-tuning on clean samples
follows. When the audit recovered triggers, half of each batch carries one and must be answered as
without it (unlearning, Wang et al. 2019): pruning alone leaves many backdoors alive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.sanitize.finetune import Tuning, fine_tune
from auditor.sanitize.interface import Repair, RepairContext, Sanitizer
from auditor.sanitize.judge import GOOD_ASR, Tuned
from auditor.sanitize.measure import twin_accuracy

if TYPE_CHECKING:
    from torch import Tensor

    from auditor.classifier import Classifier
    from auditor.twin.interface import Layer

_STEPS = 10
_MOST_PRUNED = 0.8
_RATES = (2e-3, 3e-4)


@dataclass(frozen=True, slots=True)
class Pruned:
    """Masked parameters by name, the masks to hold while fine-tuning, and how many were cut."""

    parameters: dict[str, Tensor]
    masks: dict[str, Tensor]
    channels: int
    of: int


class FinePruning(Sanitizer):
    """Prune the last convolution (or hidden dense layer), then fine-tune."""

    name = "fine-pruning"
    title = "Fine-pruning"
    doc = __doc__ or ""
    order = 40

    def repair(self, context: RepairContext) -> Repair | None:
        """Changed parameters, or None when no layer with prunable channels is known."""
        layer = prunable_layer(context.classifier)
        if layer is None:
            return None
        pruned, tuned = _best(context, prune(context, layer))
        return tuned.repair(
            self.name,
            {
                "layer": layer.label,
                "pruned_channels": pruned.channels,
                "channels": pruned.of,
                "unlearned_triggers": [t.trigger.name for t in context.triggers],
            },
        )


def _best(context: RepairContext, pruned: Pruned) -> tuple[Pruned, Tuned]:
    """Tune gently or firmly, pruned or not (narrow layers have no channel to spare).

    Stops at the first that is good enough; otherwise the best of what the budget allowed.
    """
    whole = Pruned({}, {}, 0, pruned.of)
    tries = [(p, rate) for p in (pruned, whole) for rate in _RATES if p.channels or p is whole]
    best: tuple[Pruned, Tuned] | None = None
    for start, rate in tries:
        tuned = fine_tune(
            context,
            start.parameters,
            start.masks,
            Tuning(learning_rate=rate),
        )
        if best is None or tuned.rank > best[1].rank:
            best = (start, tuned)
        if (tuned.acceptable and tuned.asr <= GOOD_ASR) or context.budget.spent:
            break
    assert best is not None
    return best


def prunable_layer(classifier: Classifier) -> Layer | None:
    """The last convolution with channels, else the last hidden dense layer."""
    head = classifier.twin.head if classifier.twin is not None else None
    usable = [
        layer
        for layer in classifier.layers
        if layer.weight is not None
        and layer.weight_axis is not None
        and (head is None or layer.name != head.name)
    ]
    convolutions = [layer for layer in usable if layer.kind == "conv"]
    dense = [layer for layer in usable if layer.kind == "dense"]
    ranked = convolutions or dense
    return ranked[-1] if ranked else None


def prune(context: RepairContext, layer: Layer) -> Pruned:
    """Cut channels of `layer`, least active on clean samples first, while accuracy holds."""
    import torch

    classifier = context.classifier
    assert classifier.twin is not None
    assert layer.weight is not None
    images = torch.from_numpy(context.train.pixels[:256]).to(classifier.device)
    with torch.no_grad():
        _, values = classifier.twin_run(images, (layer.name,))
    activation = values[layer.name].relu().movedim(layer.channel_axis, 0).flatten(1).mean(1)
    order = torch.argsort(activation)
    channels = len(order)
    floor = twin_accuracy(classifier, context.held_out) - context.max_accuracy_drop / 2
    best = _masked(classifier, layer, order[:0])
    cut = 0
    for step in range(1, _STEPS + 1):
        count = round(channels * _MOST_PRUNED * step / _STEPS)
        trial = _masked(classifier, layer, order[:count])
        if context.budget.spent or twin_accuracy(classifier, context.held_out, trial[0]) < floor:
            break
        best, cut = trial, count
    return Pruned(best[0], best[1], cut, channels)


def _masked(
    classifier: Classifier, layer: Layer, cut: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    import torch

    assert classifier.twin is not None
    parameters, masks = {}, {}
    for name, axis in ((layer.weight, layer.weight_axis or 0), (layer.bias, 0)):
        if name is None:
            continue
        value = classifier.twin.parameters[name]
        mask = torch.ones_like(value)
        mask.index_fill_(axis if value.ndim > 1 else 0, cut, 0.0)
        parameters[name], masks[name] = value * mask, mask
    return parameters, masks
