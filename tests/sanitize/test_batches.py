"""What a step sees: every image beside the one it was made of, and followers told to their kind."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from auditor.checks.interface import Budget
from auditor.sanitize.batches import Batches
from auditor.sanitize.finetune import Tuning
from auditor.sanitize.interface import RepairContext
from auditor.triggers.interface import RecoveredTrigger
from tests.checks.behaviour.nets import TARGET, TRIGGER, classifier, samples, trained

FOUND = RecoveredTrigger(TRIGGER, TARGET, 1.0, 0.0, 2.0, "test")
MORE = Tuning(batch=16, random=40, universal=24, rounds=1, search=2, noise=0.0, suspected=True)
"""More random and universal images than clean ones: they share the clean ones."""


@pytest.fixture(scope="module")
def context() -> RepairContext:
    given = samples(120)
    net = classifier(trained(True))
    half = given.take(slice(0, 60)), given.take(slice(60, None))
    return RepairContext(net, *half, [FOUND, FOUND], Budget(600.0))


def drawn(context: RepairContext, tuning: Tuning) -> tuple[Batches, tuple[torch.Tensor, ...]]:
    batches = Batches(context, tuning)
    return batches, batches.draw({})


def test_each_image_stands_beside_the_one_it_was_made_of(context: RepairContext) -> None:
    _, (clean, origin, seen) = drawn(context, MORE)
    assert len(clean) == 16
    assert len(seen) == len(origin) == 16 + 40 + 24
    assert seen.min() >= 0
    assert seen.max() <= 1
    changed = (seen - clean[origin]).flatten(1).abs().amax(1) > 0
    assert changed[:8].all(), "recovered triggers on the first half"
    assert not changed[8:16].any(), "the second half is clean"
    assert changed[16:].float().mean() > 0.8


def test_without_recovered_triggers_the_whole_batch_is_clean(context: RepairContext) -> None:
    tuning = Tuning(batch=12, noise=0.0)
    nothing = dataclasses.replace(context, triggers=[])
    _, (clean, origin, seen) = drawn(nothing, tuning)
    assert torch.equal(seen, clean[origin])
    _, (clean, _, seen) = drawn(context, dataclasses.replace(tuning, recovered=False))
    assert torch.equal(seen, clean)


@pytest.mark.parametrize(
    ("part", "source"), [(slice(0, 8), 0), (slice(16, 56), 1), (slice(56, 80), 2)]
)
def test_followers_are_told_to_the_kind_they_carry(
    context: RepairContext, part: slice, source: int
) -> None:
    batches, (_, origin, _) = drawn(context, MORE)
    assert batches.bank is not None
    minings = (batches.known, batches.stamps.mining, batches.bank.mining)
    before = [mining.followed.mean() for mining in minings]
    wanted = torch.eye(10)[torch.full((len(origin),), (TARGET + 1) % 10)]
    says = wanted.clone()
    says[part] = torch.eye(10)[TARGET]
    batches.learn(wanted, says)
    after = [mining.followed.mean() for mining in minings]
    assert [b > a for a, b in zip(before, after, strict=True)] == [i == source for i in range(3)]


def test_another_class_than_the_suspected_one_is_no_following(context: RepairContext) -> None:
    batches, (_, origin, _) = drawn(context, MORE)
    wanted = torch.eye(10)[torch.full((len(origin),), (TARGET + 1) % 10)]
    batches.learn(wanted, torch.eye(10)[torch.full((len(origin),), (TARGET + 2) % 10)])
    assert batches.known.followed.max() == 0.2, "the kind that was not drawn"
    assert batches.known.followed.min() < 0.2


def test_triggered_images_weigh_more_and_the_mean_stays_one(context: RepairContext) -> None:
    batches, _ = drawn(context, MORE)
    weights = batches.weights(4.0).numpy()
    assert weights.mean() == pytest.approx(1.0)
    assert len(weights) == 80
    assert np.allclose(weights[:8], 4 * weights[8])
    assert np.allclose(weights[8:16], weights[8])
    assert np.allclose(weights[16:], weights[0])
