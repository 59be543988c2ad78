"""Neural Cleanse as its authors run it: a yardstick for `audit bench --against`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete, Skipped
from auditor.findings import Metric, Outcome, Severity

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.optim import Optimizer

    from auditor.inversion.search import Logits

STEPS, RATE, BATCH = 1000, 0.1, 32
ASR, PATIENCE, EARLY_PATIENCE = 0.99, 5, 25
FIRST_COST, UP, DOWN = 1e-3, 2.0, 2.0**1.5
MOST_SAMPLES = 1000
AT_ONCE = 10
BOUND = 2.0
_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class Reversed:
    """The smallest mask (L1 norm, infinite = none at the wanted ASR) of one class."""

    size: float
    passes: int
    steps: int


class NeuralCleanse(BehaviourCheck):
    """Every class by itself, no pruning, the original schedule."""

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
    early_stop: ClassVar[bool] = True

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
        found: list[Reversed] = []
        with one_thread():
            for first in range(0, classifier.classes, AT_ONCE):
                found += reverse(
                    classifier.twin_logits,
                    images,
                    range(first, min(first + AT_ONCE, classifier.classes)),
                    context.seed,
                    lambda: self._late(context),
                    early_stop=self.early_stop,
                )
        sizes = [one.size for one in found]
        index, smallest = anomaly_index(np.array(sizes))
        yield Metric(f"{self.name}.score", round(index, 4))
        yield Metric(f"{self.name}.flag", index > BOUND)
        yield Metric(f"{self.name}.target", smallest)
        yield Metric(f"{self.name}.passes", sum(one.passes for one in found))
        yield Metric("per_class", [{"class": k, "mask L1": round(s, 3)}
                                   for k, s in enumerate(sizes) if np.isfinite(s)])  # fmt: skip

    @staticmethod
    def _late(context: BehaviourContext) -> None:
        if context.budget.spent:
            raise Incomplete("the time budget ended before every class was reversed")


class FullNeuralCleanse(NeuralCleanse):
    """Every class for all its epochs."""

    name = "baseline.neural-cleanse-full"
    title = "Neural Cleanse at full length (baseline)"
    doc = (
        "As `baseline.neural-cleanse` (Wang et al. 2019), but without the early stop: 1,000 epochs "
        "over the samples for every class. Takes minutes on the smallest networks. A yardstick for "
        "`audit bench --against`, not part of an audit."
    )
    order = 91
    early_stop = False


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
    logits: Logits,
    images: Tensor,
    targets: Sequence[int],
    seed: int,
    late: Callable[[], None] = lambda: None,
    *,
    early_stop: bool = True,
) -> list[Reversed]:
    """Mask and pattern towards each of `targets`, over all of `images` (N, C, H, W).

    The classes share forward passes and nothing else: each has its own draw, Adam's moments, cost
    and end, as if searched alone. `late` is called after every batch and may raise. Without
    `early_stop` every epoch is run.
    """
    import torch

    draws = [torch.Generator().manual_seed(seed + target) for target in targets]
    masks = [_start((1, *images.shape[2:]), draw, images) for draw in draws]
    patterns = [_start(tuple(images.shape[1:]), draw, images) for draw in draws]
    optimiser = torch.optim.Adam([*masks, *patterns], lr=RATE, betas=(0.5, 0.9))
    schedules = [_Schedule() for _ in targets]
    seen = len(images) // BATCH * BATCH
    steps = [0] * len(targets)
    while active := [
        k for k, s in enumerate(schedules) if steps[k] < STEPS and not (early_stop and s.ended)
    ]:
        orders = torch.stack([torch.randperm(len(images), generator=draws[k]) for k in active])
        goals = torch.tensor([targets[k] for k in active], device=images.device)
        costs = torch.tensor([schedules[k].cost for k in active], device=images.device)
        m, p = [masks[k] for k in active], [patterns[k] for k in active]
        hits, norms = torch.zeros(len(active)), torch.zeros(len(active))
        for at in range(0, seen, BATCH):
            chosen = images[orders[:, at : at + BATCH].to(images.device)]
            hit, size = _batch(logits, chosen, goals, m, p, costs, optimiser)
            hits, norms = hits + hit, norms + size * BATCH
            late()
        for row, k in enumerate(active):
            steps[k] += 1
            schedules[k].epoch(float(hits[row]) / seen, float(norms[row]) / seen)
    return [Reversed(s.best, n * seen, n) for s, n in zip(schedules, steps, strict=True)]


def _start(shape: tuple[int, ...], draw: Generator, like: Tensor) -> Tensor:
    """Random values in 0..1 as the leaf whose tanh, moved to 0..1, they are."""
    import torch

    uniform = torch.rand(shape, generator=draw)
    return torch.atanh((uniform - 0.5) * (2 - 1e-6)).to(like.device).requires_grad_(True)


def _batch(
    logits: Logits,
    images: Tensor,
    targets: Tensor,
    masks: Sequence[Tensor],
    patterns: Sequence[Tensor],
    costs: Tensor,
    optimiser: Optimizer,
) -> tuple[Tensor, Tensor]:
    """One step of Adam for A classes with `images` (A, B, C, H, W) each.

    Returns (A,) how many images went to their target, and the masks' L1 norms before the step.
    """
    import torch
    from torch.nn import functional

    m = torch.tanh(torch.stack(list(masks)))[:, None] / 2 + 0.5
    p = torch.tanh(torch.stack(list(patterns)))[:, None] / 2 + 0.5
    scores = logits(((1 - m) * images + m * p).flatten(0, 1))
    goals = targets.repeat_interleave(images.shape[1])
    errors = functional.cross_entropy(scores, goals, reduction="none")
    sizes = m.abs().flatten(1).sum(1)
    loss = errors.reshape(len(targets), -1).mean(1) + costs * sizes
    optimiser.zero_grad()
    loss.sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    hits = (scores.detach().argmax(1) == goals).reshape(len(targets), -1).float().sum(1)
    return hits.cpu(), sizes.detach().cpu()


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
