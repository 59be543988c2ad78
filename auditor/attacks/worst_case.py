"""The worst case per sample over several attacks (AutoAttack, Croce & Hein 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.attacks.apgd import APGD, TargetedAPGD
from auditor.attacks.fab import TargetedFAB
from auditor.attacks.interface import LINF, Attack, AttackResult, Predict, Stop, never
from auditor.attacks.square import Square


@dataclass(frozen=True, slots=True)
class WorstCase:
    """`result` as of one attack; `by` counts the samples each attack broke first."""

    result: AttackResult
    by: Mapping[str, int]
    left_out: tuple[str, ...]


def standard_attacks(
    epsilon: float,
    *,
    norm: str = LINF,
    steps: int = 100,
    queries: int = 5000,
    classes: int = 9,
    restarts: int = 1,
) -> tuple[Attack, ...]:
    """AutoAttack's standard four, in its order; Square only for L-inf. `restarts` of APGD-CE."""
    attacks: list[Attack] = [
        APGD(epsilon, norm, steps=steps, restarts=restarts),
        TargetedAPGD(epsilon, norm, steps=steps, classes=classes),
        TargetedFAB(epsilon, norm, steps=steps, classes=classes),
    ]
    if norm == LINF:
        attacks.append(Square(epsilon, norm, queries=queries))
    return tuple(attacks)


def worst_case(
    predict: Predict,
    images: Tensor,
    labels: Tensor,
    attacks: Sequence[Attack],
    *,
    seed: int = 0,
    batch: int = 256,
    stop: Stop = never,
) -> WorstCase:
    """Run `attacks` in order, each on the samples that all before it left standing.

    Attacks that the deadline kept from starting are named in `left_out`; the robust accuracy is
    then an upper bound of what the whole ensemble would give.
    """
    adversarial = images.clone()
    fooled = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    wrong_before = fooled.clone()
    by: dict[str, int] = {}
    left_out: list[str] = []
    complete = True
    for number, attack in enumerate(attacks):
        open_ = (~fooled).nonzero().flatten()
        if not len(open_):
            break
        if number and stop():
            left_out.append(attack.name)
            continue
        part = attack(predict, images[open_], labels[open_], seed=seed, batch=batch, stop=stop)
        if number == 0:
            wrong_before = part.wrong_before.clone()
        adversarial[open_] = part.images
        fooled[open_] = part.fooled
        by[attack.name] = int((part.fooled & ~part.wrong_before).sum())
        complete = complete and part.complete
    result = AttackResult(adversarial, fooled, wrong_before, complete and not left_out)
    return WorstCase(result, by, tuple(left_out))
