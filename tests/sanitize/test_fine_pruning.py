"""Fine-pruning: the backdoor goes, the accuracy stays, and what cannot be judged is not changed."""

from __future__ import annotations

import numpy as np
import torch

from auditor.checks.interface import Budget
from auditor.sanitize.fine_pruning import FinePruning, prunable_layer
from auditor.sanitize.interface import RepairContext
from auditor.sanitize.measure import twin_accuracy, twin_asr
from auditor.triggers.interface import RecoveredTrigger
from tests.checks.behaviour.nets import TARGET, TRIGGER, classifier, samples, trained

FOUND = RecoveredTrigger(TRIGGER, TARGET, 1.0, 0.0, 2.0, "test")


def context(backdoored: bool, seconds: float = 600.0) -> RepairContext:
    given = samples(360)
    return RepairContext(
        classifier(trained(backdoored)),
        given.take(slice(0, 180)),
        given.take(slice(180, None)),
        [FOUND] if backdoored else [],
        Budget(seconds),
    )


def test_the_backdoor_goes_and_the_accuracy_stays() -> None:
    ctx = context(True)
    repair = FinePruning().repair(ctx)
    assert repair is not None
    changed = {n: torch.from_numpy(v) for n, v in repair.changes.items()}
    assert twin_asr(ctx.classifier, ctx.held_out, FOUND) > 0.9
    assert twin_asr(ctx.classifier, ctx.held_out, FOUND, changed) < 0.1
    before = twin_accuracy(ctx.classifier, ctx.held_out)
    assert twin_accuracy(ctx.classifier, ctx.held_out, changed) >= before - 0.02


def test_a_clean_model_keeps_its_accuracy() -> None:
    ctx = context(False)
    repair = FinePruning().repair(ctx)
    assert repair is not None
    changed = {n: torch.from_numpy(v) for n, v in repair.changes.items()}
    before = twin_accuracy(ctx.classifier, ctx.held_out)
    assert twin_accuracy(ctx.classifier, ctx.held_out, changed) >= before - 0.02


def test_pruned_channels_stay_cut() -> None:
    ctx = context(True)
    repair = FinePruning().repair(ctx)
    assert repair is not None
    cut = repair.record["pruned_channels"]
    assert (np.abs(repair.changes["conv.weight"]).sum(axis=(1, 2, 3)) == 0).sum() == cut


def test_the_same_seed_gives_the_same_repair() -> None:
    first, second = (FinePruning().repair(context(True)) for _ in range(2))
    assert first is not None
    assert second is not None
    for name, value in first.changes.items():
        np.testing.assert_array_equal(value, second.changes[name])


def test_the_last_convolution_is_pruned() -> None:
    layer = prunable_layer(classifier(trained(False)))
    assert layer is not None
    assert layer.name == "conv"
