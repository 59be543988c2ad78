"""Signs that gradients mislead and a robustness figure is not to be trusted.

After Athalye, Carlini, Wagner 2018, Carlini et al. 2019 and Croce & Hein 2020. Every sign compares
two attacks on the same samples; a difference counts when it is large and cannot be chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from auditor.attacks.fgsm import FGSM
from auditor.attacks.interface import Predict, Stop, gradient, never, project
from auditor.attacks.losses import cross_entropy, margin
from auditor.attacks.pgd import PGD
from auditor.attacks.square import Square

ZERO_SHARE = 0.2
GAP = 0.15
CHANCE = 0.01
STALL_SHARE, STALL_GAIN, STALL_GAP = 0.4, 0.1, 0.4
"""One step is called stalled: breaks at most so many, gains less, leaves that gap to many steps."""

SINGLE_STEPS = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5)


UNBOUNDED = 0.25
"""Share of samples that must withstand unbounded gradient steps to be a sign: some 8 % do on an
ordinary published network whose hidden units die far outside the data."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One sign that was looked for. `strong` ones suffice to distrust the figure."""

    name: str
    seen: bool
    evidence: str
    strong: bool = True


@dataclass(frozen=True, slots=True)
class Attacked:
    """Bool (N,) by attack: who was fooled. `single_steps` holds FGSM at ascending epsilons."""

    one_step: Tensor
    single_steps: tuple[tuple[float, Tensor], ...]
    iterated: Tensor
    by_margin: Tensor
    by_queries: Tensor
    unbounded: Tensor
    zero_gradient: Tensor
    zero_margin_gradient: Tensor


def measure(
    predict: Predict,
    native: Predict,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    steps: int = 20,
    queries: int = 300,
    seed: int = 0,
    batch: int = 128,
    stop: Stop = never,
) -> Attacked | None:
    """All attacks the signs compare, on samples that are right without any; None if out of time.

    `predict` has gradients (the twin), `native` is what queries go to.
    """
    zero = _zero_gradients(predict, images, labels, cross_entropy, batch)
    zero_margin = _zero_gradients(predict, images, labels, margin, batch)
    single = []
    for share in SINGLE_STEPS:
        found = FGSM(share * epsilon)(predict, images, labels, seed=seed, batch=batch)
        single.append((share * epsilon, found.fooled))
    runs = [
        FGSM(epsilon),
        PGD(epsilon, steps=steps),
        PGD(epsilon, steps=steps, loss="margin"),
        PGD(1.0, steps=2 * steps, step_size=0.05, random_start=False),
    ]
    fooled = []
    for attack in runs:
        result = attack(predict, images, labels, seed=seed, batch=batch, stop=stop)
        if not result.complete:
            return None
        fooled.append(result.fooled)
    # Without bounds every loss should do: what one leaves standing the other may take.
    wide = PGD(1.0, steps=2 * steps, step_size=0.05, random_start=False, loss="margin")
    rest = wide(predict, images, labels, seed=seed, batch=batch, stop=stop)
    search = Square(epsilon, queries=queries)
    queried = search(native, images, labels, seed=seed, batch=batch, stop=stop)
    if not (rest.complete and queried.complete):
        return None
    return Attacked(
        fooled[0], tuple(single), fooled[1], fooled[2], queried.fooled,
        fooled[3] | rest.fooled, zero, zero_margin,
    )  # fmt: skip


def signs(found: Attacked, epsilon: float) -> Iterator[Sign]:
    """Each sign with what was seen. All shares are of samples right without an attack."""
    n = len(found.one_step)
    white = found.iterated | found.by_margin
    zero, zero_margin = _share(found.zero_gradient), _share(found.zero_margin_gradient)
    yield Sign(
        "zero-gradient",
        max(zero, zero_margin) >= ZERO_SHARE,
        f"the input gradient is exactly zero for {zero:.0%} of {n} samples by cross-entropy, for "
        f"{zero_margin:.0%} by the margin loss",
    )
    yield Sign(
        "queries-beat-gradients",
        beats(found.by_queries, white),
        f"queries alone break {_share(found.by_queries):.0%}, gradients {_share(white):.0%} of {n} "
        f"samples at epsilon {epsilon:g}",
    )
    yield Sign(
        "one-step-beats-iterated",
        beats(found.one_step, white),
        f"one step breaks {_share(found.one_step):.0%}, many steps {_share(white):.0%} of {n} "
        f"samples at epsilon {epsilon:g}",
    )
    yield _stall(found.single_steps, found.one_step, white, epsilon)
    standing = 1 - _share(found.unbounded)
    yield Sign(
        "unbounded-fails",
        standing >= UNBOUNDED and n * standing >= 5,
        f"{standing:.0%} of {n} samples withstand gradient steps without any bound",
    )
    yield _collapse(found.single_steps, white, epsilon)
    yield Sign(
        "loss-decides",
        beats(found.by_margin, found.iterated),
        f"the same attack breaks {_share(found.iterated):.0%} with cross-entropy and "
        f"{_share(found.by_margin):.0%} with the margin loss of {n} samples: saturated outputs",
        strong=False,
    )


def _collapse(steps: Sequence[tuple[float, Tensor]], white: Tensor, epsilon: float) -> Sign:
    """Catastrophic overfitting (Wong et al. 2020): a smaller single step beats a larger one."""
    pairs = [(a, b) for i, b in enumerate(steps) for a in steps[:i]]
    (low, best), (high, worst) = max(
        pairs, key=lambda pair: int(pair[0][1].sum()) - int(pair[1][1].sum())
    )
    return Sign(
        "smaller-step-is-stronger",
        beats(best, worst) and beats(white, worst),
        f"one step of {low:g} breaks {_share(best):.0%}, one of {high:g} {_share(worst):.0%}, many "
        f"steps at {epsilon:g} {_share(white):.0%} of {len(white)} samples (the mark of collapsed "
        "one-step adversarial training when the smaller step is the stronger)",
    )


def _stall(
    steps: Sequence[tuple[float, Tensor]], one: Tensor, white: Tensor, epsilon: float
) -> Sign:
    """Catastrophic overfitting (Wong et al. 2020): one step stalls where many break nearly all.

    The network has learnt to bend away along the very step it was trained on. Undefended networks
    stall too, but only after one step has broken most samples.
    """
    half = next(fooled for value, fooled in steps if value >= 0.5 * epsilon)
    gained = _share(one) - _share(half)
    return Sign(
        "one-step-stalls",
        _share(one) <= STALL_SHARE and gained < STALL_GAIN and beats(white, one, STALL_GAP),
        f"one step breaks {_share(half):.0%} at half of epsilon {epsilon:g} and {_share(one):.0%} "
        f"at all of it, many steps {_share(white):.0%} of {len(one)} samples (the mark of "
        "collapsed one-step adversarial training)",
    )


def beats(stronger: Tensor, weaker: Tensor, gap: float = GAP, chance: float = CHANCE) -> bool:
    """`stronger` fooled more by at least `gap` of the samples and not by chance.

    One-sided exact McNemar test on the samples where the two differ.
    """
    more = int((stronger & ~weaker).sum())
    less = int((weaker & ~stronger).sum())
    if more - less < gap * max(1, len(stronger)):
        return False
    total = more + less
    tail = sum(comb(total, k) for k in range(more, total + 1))
    return bool(tail / 2**total < chance)


def distrust(found: Sequence[Sign]) -> tuple[Sign, ...]:
    """The signs that were seen, strong ones first."""
    return tuple(sorted((sign for sign in found if sign.seen), key=lambda sign: not sign.strong))


def _share(fooled: Tensor) -> float:
    return float(fooled.double().mean()) if len(fooled) else 0.0


def _zero_gradients(
    predict: Predict, images: Tensor, labels: Tensor, loss: object, batch: int
) -> Tensor:
    """Bool (N,): no pixel has any influence on the loss, here and a random step away."""
    assert callable(loss)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(images.shape, generator=generator).to(images) * 0.02 - 0.01
    zero = torch.ones(len(images), dtype=torch.bool, device=images.device)
    for start in (images, project(images + noise, images, 0.01, "linf")):
        for first in range(0, len(images), batch):
            part = slice(first, first + batch)
            aim = labels[part]
            grad = gradient(lambda x, aim=aim: loss(predict(x), aim), start[part])  # type: ignore[misc]
            zero[part] &= grad.flatten(1).abs().amax(1).eq(0)
    return zero
