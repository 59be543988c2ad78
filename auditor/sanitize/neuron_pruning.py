"""Adversarial neuron pruning (Wu & Wang, NeurIPS 2021): cut channels that noise makes fire.

A backdoored network falls for its target when its weights are perturbed. Each step perturbs every
channel's weight and bias (one sign step of relative size `EPSILON`, maximising the loss), then
learns one mask a channel that keeps clean and perturbed accuracy; channels of low mask are cut as
long as held-out accuracy stays. The paper perturbs batch normalisation; here every hidden layer is,
through whatever ends its channels, so networks without normalisation are treated too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from auditor.sanitize.channels import Block, blocks, silenced
from auditor.sanitize.interface import Repair, RepairContext, Sanitizer
from auditor.sanitize.judge import Judge

if TYPE_CHECKING:
    from torch import Tensor

EPSILON, ALPHA, RATE = 0.4, 0.2, 0.1
_STEPS, _BATCH = 100, 64
_SHARES = (0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3)


class AdversarialPruning(Sanitizer):
    """Learn channel masks under adversarial weight noise, then prune."""

    name = "adversarial-pruning"
    title = "Adversarial neuron pruning"
    doc = __doc__ or ""
    order = 60

    def repair(self, context: RepairContext) -> Repair | None:
        """The pruned network; None when no layer has channels or none can go."""
        found = blocks(context.classifier)
        if not found:
            return None
        masks = learn_masks(context, found)
        order = sorted(
            (float(value), i, c) for i, mask in enumerate(masks) for c, value in enumerate(mask)
        )
        judge = Judge(context)
        kept: tuple[int, dict[str, Tensor]] | None = None
        for share in _SHARES:
            count = round(share * len(order))
            if not count or (kept is not None and count == kept[0]):
                continue
            parameters, _ = silenced(context.classifier, _chosen(found, order[:count]))
            if context.budget.spent or not judge.see(parameters).acceptable:
                break
            kept = (count, parameters)
        if kept is None:
            return None
        changes = {name: value.cpu().numpy() for name, value in kept[1].items()}
        return Repair(self.name, changes, {"pruned_channels": kept[0], "channels": len(order)})


def _chosen(found: list[Block], cut: list[tuple[float, int, int]]) -> list[tuple[Block, Tensor]]:
    import torch

    return [
        (block, torch.tensor([c for _, i, c in cut if i == at]))
        for at, block in enumerate(found)
        if any(i == at for _, i, _ in cut)
    ]


def learn_masks(context: RepairContext, found: list[Block]) -> list[Tensor]:
    """One mask (C,) in 0..1 a block, after `_STEPS` steps or when the budget ends."""
    import torch
    from torch.nn import functional

    classifier = context.classifier
    device = classifier.device
    rng = np.random.default_rng(context.seed)
    masks = [torch.ones(b.channels, device=device, requires_grad=True) for b in found]
    optimiser = torch.optim.SGD(masks, lr=RATE, momentum=0.9)

    def loss(x: Tensor, y: Tensor, noise: list[Tensor]) -> Tensor:
        pairs = [(m, n) for m, n in zip(masks, noise, strict=True)]
        return functional.cross_entropy(
            classifier.twin_logits(x, _perturbed(context, found, pairs)), y
        )

    for _ in range(_STEPS):
        index = rng.integers(0, len(context.train), _BATCH)
        x = torch.from_numpy(context.train.pixels[index]).to(device)
        y = torch.from_numpy(context.train.labels[index]).to(device)
        noise = [
            (torch.rand((2, b.channels), device=device) * 2 - 1).mul_(EPSILON).requires_grad_(True)
            for b in found
        ]
        gradient = torch.autograd.grad(loss(x, y, noise), noise)
        noise = [EPSILON * g.sign() for g in gradient]
        still = [torch.zeros((2, b.channels), device=device) for b in found]
        total = ALPHA * loss(x, y, still) + (1 - ALPHA) * loss(x, y, noise)
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        optimiser.step()
        with torch.no_grad():
            for mask in masks:
                mask.clamp_(0.0, 1.0)
        if context.budget.spent:
            break
    return [mask.detach() for mask in masks]


def _perturbed(
    context: RepairContext, found: list[Block], pairs: list[tuple[Tensor, Tensor]]
) -> Mapping[str, Tensor]:
    """Weights times (mask + noise), shifts times (1 + noise), channel by channel."""
    assert context.classifier.twin is not None
    stored = context.classifier.twin.parameters
    result: dict[str, Tensor] = {}
    for block, (mask, noise) in zip(found, pairs, strict=True):
        for position, (name, axis) in enumerate(block.switches):
            value = stored[name]
            factor = (mask + noise[0]) if position == 0 else (1 + noise[1])
            shape = [1] * value.ndim
            shape[axis if value.ndim > 1 else 0] = -1
            result[name] = value * factor.reshape(shape)
    return result
