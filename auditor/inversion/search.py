"""Trigger inversion for all target classes at once, hopeless ones dropped on the way.

For every class t the smallest trigger is sought that sends images of other classes to t (Neural
Cleanse, Wang et al., 2019), with the weight of the size adapted step by step as there, all classes
in one batch (after K-Arm, Shen et al., 2021, which also stops hopeless arms early). One pass is
one image through the network forwards and backwards; `Outcome.passes` counts them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from auditor.inversion.families import Family, Parameters

Logits = Callable[[Tensor], Tensor]
"""(N, C, H, W) in 0..1 -> (N, K), differentiable."""

CHUNK_VALUES = 6_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Hyper-parameters of a search; the defaults are what the check uses at up to 40 classes.

    `halvings` are (share of the steps, share of the targets kept); never fewer than `least` stay.
    After `give_up` of the steps a search ends in which no target was reached at all.
    """

    steps: int = 100
    batch: int = 16
    asr: float = 0.9
    growth: float = 1.1
    memory: float = 0.8
    halvings: tuple[tuple[float, float], ...] = ((0.4, 0.6), (0.65, 0.4))
    least: int = 4
    give_up: float = 0.6
    seed: int = 0


@dataclass(slots=True)
class Inversion:
    """What a search came to; row i belongs to class ``targets[i]``.

    `sizes` is the smallest size reached while the moving ASR was at least the wanted one, infinite
    where it never was; `reached` is that moving ASR; `steps` how long the class was searched.
    `complete` is False when the budget ended it before its last step.
    """

    family: Family
    targets: NDArray[np.int64]
    sizes: NDArray[np.float64]
    reached: NDArray[np.float64]
    steps: NDArray[np.int64]
    parameters: Parameters
    passes: int = 0
    complete: bool = True

    def ranked(self) -> NDArray[np.int64]:
        """Rows from the smallest size to the largest."""
        return np.argsort(self.sizes, kind="stable").astype(np.int64)


class _Arms:
    """The state of the classes still searched: parameters, Adam's moments, weights, moving ASR."""

    def __init__(
        self,
        family: Family,
        count: int,
        settings: Settings,
        device: str,
        start: Parameters | None,
    ) -> None:
        draw = torch.Generator().manual_seed(settings.seed)
        begin = family.start(count, draw) if start is None else start
        self.parameters = [p.detach().clone().to(device) for p in begin]
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.rows = torch.arange(count, device=device)
        self.weight = torch.full((count,), family.weight, device=device)
        self.asr = torch.zeros(count, device=device)
        self.loss = torch.full((count,), 1e9, device=device)

    def keep(self, chosen: Tensor) -> None:
        """Drop all rows but `chosen`."""
        for group in (self.parameters, self.first, self.second):
            group[:] = [p[chosen] for p in group]
        self.rows, self.weight = self.rows[chosen], self.weight[chosen]
        self.asr, self.loss = self.asr[chosen], self.loss[chosen]

    def step(self, gradients: list[Tensor], rate: float, number: int) -> None:
        """One Adam update (Kingma & Ba, 2015) with the momenta Neural Cleanse uses (0.5, 0.9)."""
        for p, m, v, g in zip(self.parameters, self.first, self.second, gradients, strict=True):
            m.mul_(0.5).add_(g, alpha=0.5)
            v.mul_(0.9).addcmul_(g, g, value=0.1)
            scale = rate / (1 - 0.5**number)
            p.addcdiv_(m, (v / (1 - 0.9**number)).sqrt_().add_(1e-8), value=-scale)


def invert(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    family: Family,
    targets: NDArray[np.int64],
    settings: Settings,
    spent: Callable[[], bool] = lambda: False,
    start: Parameters | None = None,
    wanted: Tensor | None = None,
) -> Inversion:
    """Search a trigger of `family` towards each class of `targets`.

    `images` float32 (N, C, H, W) in 0..1 and `labels` int64 (N,): the classes the model gives
    them; images of class t are never used for target t. The same seed gives the same result.
    `spent` is asked after each step and ends the search. `start` gives initial parameters, one row
    a target, instead of random ones. `wanted` int64 (T, N) gives row t its answer for each image
    where that is not one class for all. Raises `ValueError` when a target has no image of another
    class.
    """
    arms = _Arms(family, len(targets), settings, str(images.device), start)
    goals = torch.from_numpy(targets).to(images.device)
    if wanted is None:
        wanted = goals[:, None].expand(len(targets), len(labels))
    pools = _pools(labels, wanted)
    draw = torch.Generator().manual_seed(settings.seed + 1)
    count = len(targets)
    result = Inversion(
        family,
        targets,
        np.full(count, np.inf),
        np.zeros(count),
        np.zeros(count, np.int64),
        tuple(p.clone() for p in arms.parameters),
    )
    cuts = {round(at * settings.steps): share for at, share in settings.halvings}
    for number in range(1, settings.steps + 1):
        chosen = _draw(pools, arms.rows, settings.batch, draw)
        hits, sizes, gradients = _gradients(
            logits, images, chosen, wanted[arms.rows].gather(1, chosen), family, arms
        )
        result.passes += chosen.numel()
        arms.asr = settings.memory * arms.asr + (1 - settings.memory) * hits
        moving = arms.asr / (1 - settings.memory**number)
        good = moving >= settings.asr
        _remember(result, arms, sizes, moving, good)
        factor = torch.where(good, settings.growth, 1.0 / settings.growth)
        arms.weight = arms.weight * factor
        arms.step(gradients, family.rate, number)
        if number in cuts:
            _halve(result, arms, max(settings.least, round(cuts[number] * count)))
        hopeless = number >= settings.give_up * settings.steps
        if hopeless and not np.isfinite(result.sizes).any():
            break
        if spent() and number < settings.steps:
            result.complete = False
            break
    return result


def _pools(labels: Tensor, wanted: Tensor) -> list[Tensor]:
    pools = [torch.nonzero(labels != row)[:, 0] for row in wanted]
    if any(len(pool) == 0 for pool in pools):
        raise ValueError("inversion needs images of at least one other class for every target")
    return pools


def _draw(pools: list[Tensor], rows: Tensor, batch: int, draw: torch.Generator) -> Tensor:
    """(T, B) indices of images, drawn for each row from its own pool."""
    picks = [pools[row] for row in rows.tolist()]
    u = torch.rand((len(picks), batch), generator=draw)
    return torch.stack(
        [pool[(u[i] * len(pool)).long().to(pool.device)] for i, pool in enumerate(picks)]
    )


def _gradients(
    logits: Logits, images: Tensor, chosen: Tensor, goals: Tensor, family: Family, arms: _Arms
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Hit rates (T,), sizes (T,) and the gradients of each row's own loss; `goals` are (T, B)."""
    per_row = max(1, chosen.shape[1] * int(np.prod(images.shape[1:])))
    rows = max(1, CHUNK_VALUES // (16 * per_row))
    hits, sizes, parts = [], [], []
    for start in range(0, len(chosen), rows):
        cut = slice(start, start + rows)
        leaves = tuple(p[cut].detach().requires_grad_(True) for p in arms.parameters)
        stamped = family.apply(leaves, images[chosen[cut]])
        scores = logits(stamped.flatten(0, 1))
        wanted = goals[cut].flatten()
        loss = functional.cross_entropy(scores, wanted, reduction="none")
        loss = loss.reshape(-1, chosen.shape[1]).mean(1)
        size = family.size(leaves)
        total = (loss + arms.weight[cut] * size / family.unit).sum()
        parts.append(torch.autograd.grad(total, leaves))
        with torch.no_grad():
            hit = (scores.argmax(1) == wanted).float().reshape(-1, chosen.shape[1]).mean(1)
            hits.append(hit)
            sizes.append(size.detach())
            arms.loss[cut] = loss.detach()
    gradients = [torch.cat(group) for group in zip(*parts, strict=True)]
    return torch.cat(hits), torch.cat(sizes), gradients


def _remember(result: Inversion, arms: _Arms, sizes: Tensor, moving: Tensor, good: Tensor) -> None:
    """Keep the smallest trigger of each row that still works, and how long it was searched."""
    rows = arms.rows.cpu().numpy()
    result.steps[rows] += 1
    best = torch.from_numpy(result.sizes[rows]).to(sizes.device)
    better = good & (sizes < best)
    if not bool(better.any()):
        return
    at = arms.rows[better]
    index = at.cpu().numpy()
    result.sizes[index] = sizes[better].cpu().numpy()
    result.reached[index] = moving[better].cpu().numpy()
    for kept, now in zip(result.parameters, arms.parameters, strict=True):
        kept[at] = now[better]


def _halve(result: Inversion, arms: _Arms, keep: int) -> None:
    """Keep the rows with the smallest triggers; those without any rank last, by their loss."""
    if len(arms.rows) <= keep:
        return
    sizes = torch.from_numpy(result.sizes[arms.rows.cpu().numpy()]).to(arms.loss.device)
    finite = torch.isfinite(sizes)
    key = torch.where(finite, sizes, 1e9 + arms.loss.double())
    order = torch.argsort(key, stable=True)[:keep]
    arms.keep(order.sort().values)
