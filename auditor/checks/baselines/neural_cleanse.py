"""Neural Cleanse at full length, as its authors run it: a yardstick for `audit bench --against`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete, Skipped
from auditor.findings import Metric, Outcome, Severity

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from auditor.inversion.search import Logits

STEPS, RATE, BATCH = 1000, 0.1, 32
ASR, PATIENCE, EARLY_PATIENCE = 0.99, 5, 25
FIRST_COST, UP, DOWN = 1e-3, 2.0, 2.0**1.5
MOST_SAMPLES = 1000
BOUND = 2.0
_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class Reversed:
    """The smallest mask (L1 norm, infinite = none at the wanted ASR) of one class."""

    size: float
    passes: int
    steps: int


class NeuralCleanse(BehaviourCheck):
    """One class after the other, no pruning, the original schedule."""

    name = "baseline.neural-cleanse"
    title = "Neural Cleanse (baseline)"
    doc = (
        "Wang et al., IEEE S&P 2019, with the hyper-parameters of the authors' code: Adam (0.1; "
        "0.5, 0.9), up to 1,000 epochs over the samples in batches of 32 per class, ASR 0.99, cost "
        "1e-3 times 2 or divided by 2^1.5 after 5 epochs above or below, early stop after 25 "
        "epochs without a smaller mask; flagged when the anomaly index of a small mask exceeds 2. "
        "A yardstick for `audit bench --against`, not part of an audit."
    )
    needs = frozenset({"gradients", "samples"})
    default_severity = Severity.INFO
    order = 90
    weight = 100.0
    on_request = True

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """The anomaly index of the smallest mask."""
        import torch

        from auditor.inversion.threads import one_thread

        samples, classifier = context.samples, context.classifier
        if samples is None or len(samples) < BATCH:
            raise Skipped(f"needs at least {BATCH} samples")
        if classifier.classes < 3:
            raise Skipped("an anomaly index needs at least three classes")
        images = torch.from_numpy(samples.pixels[:MOST_SAMPLES]).to(context.device)
        sizes, passes = [], 0
        with one_thread():
            for target in range(classifier.classes):
                found = reverse(
                    classifier.twin_logits,
                    images,
                    target,
                    context.seed,
                    lambda: self._late(context),
                )
                sizes.append(found.size)
                passes += found.passes
        index, smallest = anomaly_index(np.array(sizes))
        yield Metric(f"{self.name}.score", round(index, 4))
        yield Metric(f"{self.name}.flag", index > BOUND)
        yield Metric(f"{self.name}.target", smallest)
        yield Metric(f"{self.name}.passes", passes)
        yield Metric("per_class", [{"class": k, "mask L1": round(s, 3)}
                                   for k, s in enumerate(sizes) if np.isfinite(s)])  # fmt: skip

    @staticmethod
    def _late(context: BehaviourContext) -> None:
        if context.budget.spent:
            raise Incomplete("the time budget ended before every class was reversed")


def anomaly_index(sizes: NDArray[np.float64]) -> tuple[float, int]:
    """(index of the smallest, its class); classes that were never reached count as the largest
    size found. 0 when no class was reached."""
    if not np.isfinite(sizes).any():
        return 0.0, 0
    known = np.where(np.isfinite(sizes), sizes, sizes[np.isfinite(sizes)].max())
    middle = float(np.median(known))
    spread = _MAD * float(np.median(np.abs(known - middle)))
    smallest = int(known.argmin())
    return float((middle - known[smallest]) / max(spread, 1e-9)), smallest


def reverse(
    logits: Logits, images: Tensor, target: int, seed: int, late: Callable[[], None] = lambda: None
) -> Reversed:
    """Mask and pattern towards `target`, over all of `images` (N, C, H, W) as the authors do.

    `late` is called after every batch and may raise.
    """
    import torch

    draw = torch.Generator().manual_seed(seed + target)
    shape = images.shape[1:]
    start = [
        torch.rand((1, 1, *shape[1:]), generator=draw),
        torch.rand((1, *shape), generator=draw),
    ]
    # Random mask and pattern in 0..1, kept in range by tanh as in the original.
    mask, pattern = (
        torch.atanh((p - 0.5) * (2 - 1e-6)).to(images.device).requires_grad_(True) for p in start
    )
    optimiser = torch.optim.Adam([mask, pattern], lr=RATE, betas=(0.5, 0.9))
    schedule, passes, step = _Schedule(), 0, 0
    while step < STEPS and not schedule.ended:
        step += 1
        hits, norm, seen = 0.0, 0.0, 0
        order = torch.randperm(len(images), generator=draw)
        for at in range(0, len(order) - BATCH + 1, BATCH):
            chosen = images[order[at : at + BATCH].to(images.device)]
            hit, size = _batch(logits, chosen, target, mask, pattern, schedule.cost, optimiser)
            hits, norm, seen = hits + hit, norm + size * BATCH, seen + BATCH
            late()
        passes += seen
        schedule.epoch(hits / seen, norm / seen)
    return Reversed(schedule.best, passes, step)


def _batch(
    logits: Logits,
    images: Tensor,
    target: int,
    mask: Tensor,
    pattern: Tensor,
    cost: float,
    optimiser: Optimizer,
) -> tuple[float, float]:
    """One step of Adam; how many images went to `target`, and the mask's L1 norm before it."""
    import torch
    from torch.nn import functional

    m, p = torch.tanh(mask) / 2 + 0.5, torch.tanh(pattern) / 2 + 0.5
    scores = logits((1 - m) * images + m * p)
    goal = torch.full((len(images),), target, device=images.device)
    size = m.abs().sum()
    loss = functional.cross_entropy(scores, goal) + cost * size
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return float((scores.detach().argmax(1) == target).float().sum()), float(size.detach())


@dataclass(slots=True)
class _Schedule:
    """The weight of the mask's size, the best mask so far, and when to stop."""

    cost: float = 0.0
    best: float = float("inf")
    ended: bool = False
    _last: float = float("inf")
    _up: int = 0
    _down: int = 0
    _still: int = 0
    _raised: bool = False
    _lowered: bool = False

    def epoch(self, asr: float, norm: float) -> None:
        """After an epoch with mean ASR `asr` and mean L1 norm `norm`."""
        good = asr >= ASR
        if good and norm < self.best:
            self.best = norm
        if self.best < float("inf"):
            self._still = self._still + 1 if self.best >= self._last else 0
            self._last = min(self.best, self._last)
        self.ended = self._raised and self._lowered and self._still >= EARLY_PATIENCE
        self._up, self._down = (self._up + 1, 0) if good else (0, self._down + 1)
        if self.cost == 0.0:
            if self._up >= PATIENCE:
                self.cost, self._up, self._down = FIRST_COST, 0, 0
        elif self._up >= PATIENCE:
            self._up, self.cost, self._raised = 0, self.cost * UP, True
        elif self._down >= PATIENCE:
            self._down, self.cost, self._lowered = 0, self.cost / DOWN, True
