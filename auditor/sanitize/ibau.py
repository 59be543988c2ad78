"""I-BAU: adversarial unlearning of backdoors by implicit hypergradient (Zeng et al., ICLR 2022).

In rounds: one universal perturbation is sought that makes the network leave its own answers (inner
problem), then the weights are moved so that it no longer works (outer problem). The outer gradient
takes into account how the perturbation would answer, by a fixed-point iteration through the inner
problem. Needs few samples (the paper uses 100). Weak on triggers that are not additive, and on
all-to-all attacks, where no one perturbation serves all images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from auditor.sanitize.finetune import learned_parameters
from auditor.sanitize.interface import Repair, RepairContext, Sanitizer
from auditor.sanitize.judge import Judge

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS, FIXED_POINT, STEPS = 5, 5, 12
INNER_RATE, PENALTY, RATE = 0.1, 1e-3, 5e-4
_BATCH, _INNER_STEPS, _RADIUS = 64, 12, 10.0


class Ibau(Sanitizer):
    """Unlearn universal perturbations by implicit hypergradients."""

    name = "i-bau"
    title = "Adversarial unlearning by implicit hypergradient (I-BAU)"
    doc = __doc__ or ""
    order = 50

    def repair(self, context: RepairContext) -> Repair | None:
        """`ROUNDS` rounds, each judged on held-out samples; None without learned layers."""
        import torch

        classifier = context.classifier
        assert classifier.twin is not None
        names = learned_parameters(classifier)
        if not names:
            return None
        stored = classifier.twin.parameters
        free = {n: stored[n].clone().requires_grad_(True) for n in names}
        optimiser = torch.optim.Adam(list(free.values()), lr=RATE)
        judge, rng = Judge(context), np.random.default_rng(context.seed)
        for _ in range(ROUNDS):
            delta = _universal(context, free, rng)
            for _ in range(STEPS):
                x, y = _draw(context, rng)
                gradients = hypergradient(context, free, delta, x, y)
                for parameter, gradient in zip(free.values(), gradients, strict=True):
                    parameter.grad = gradient
                optimiser.step()
                if context.budget.spent:
                    break
            judge.see(free)
            if context.budget.spent:
                break
        judge.soften({n: stored[n] for n in names})
        return judge.result().repair(self.name, {"rounds": ROUNDS})


def _draw(context: RepairContext, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    import torch

    index = rng.integers(0, len(context.train), _BATCH)
    device = context.classifier.device
    return (
        torch.from_numpy(context.train.pixels[index]).to(device),
        torch.from_numpy(context.train.labels[index]).to(device),
    )


def _inner(
    context: RepairContext, free: dict[str, Tensor], delta: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """What the perturbation minimises: minus the loss, plus its size."""
    from torch.nn import functional

    logits = context.classifier.twin_logits((x + delta).clamp(0, 1), free)
    return -functional.cross_entropy(logits, y) + PENALTY * delta.square().sum()


def _universal(context: RepairContext, free: dict[str, Tensor], rng: np.random.Generator) -> Tensor:
    """One perturbation (1, C, H, W) by Adam, of L2 norm at most `_RADIUS`."""
    import torch

    frozen = {n: v.detach() for n, v in free.items()}
    shape = (1, *context.classifier.image_shape)
    delta = torch.zeros(shape, device=context.classifier.device, requires_grad=True)
    optimiser = torch.optim.Adam([delta], lr=0.05)
    for _ in range(_INNER_STEPS):
        x, y = _draw(context, rng)
        (delta.grad,) = torch.autograd.grad(_inner(context, frozen, delta, x, y), [delta])
        optimiser.step()
        with torch.no_grad():
            delta.mul_(min(1.0, _RADIUS / max(float(delta.norm()), 1e-9)))
    return delta.detach()


def hypergradient(
    context: RepairContext, free: dict[str, Tensor], delta: Tensor, x: Tensor, y: Tensor
) -> list[Tensor]:
    """Gradient of the outer loss by the parameters, the perturbation answering to first order.

    The fixed-point map is one gradient step of the inner problem; v = v dPhi/ddelta + dH/ddelta is
    iterated `FIXED_POINT` times (Zeng et al., eq. 4).
    """
    import torch
    from torch.nn import functional

    values = list(free.values())
    moving = delta.clone().requires_grad_(True)
    logits = context.classifier.twin_logits((x + moving).clamp(0, 1), free)
    outer = functional.cross_entropy(logits, y)
    outer = outer + functional.cross_entropy(context.classifier.twin_logits(x, free), y)
    direct = torch.autograd.grad(outer, [moving, *values])
    by_delta, by_values = direct[0], direct[1:]
    inner = _inner(context, free, moving, x, y)
    (slope,) = torch.autograd.grad(inner, [moving], create_graph=True)
    phi = moving - INNER_RATE * slope
    v = by_delta
    for _ in range(FIXED_POINT):
        (turn,) = torch.autograd.grad(phi, [moving], grad_outputs=v, retain_graph=True)
        v = turn + by_delta
        v = v * min(1.0, 10.0 / max(float(v.norm()), 1e-9))
    implicit = torch.autograd.grad(phi, values, grad_outputs=v, allow_unused=True)
    return [d if i is None else d + i for d, i in zip(by_values, implicit, strict=True)]
