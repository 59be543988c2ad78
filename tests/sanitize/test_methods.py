"""Every method on a backdoored, a clean and a hopeless network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from auditor.checks.interface import Budget
from auditor.child.repair import sanitizers
from auditor.sanitize.channels import blocks, gains, silenced
from auditor.sanitize.finetune import Tuning, fine_tune, pushed
from auditor.sanitize.interface import Repair, RepairContext
from auditor.sanitize.judge import Judge, Tuned
from auditor.sanitize.lipschitz import lipschitz_bounds, outliers
from auditor.sanitize.measure import paired_drop, twin_accuracy, twin_asr
from auditor.triggers.interface import RecoveredTrigger
from tests.checks.behaviour.nets import TARGET, TRIGGER, classifier, samples, trained

FOUND = RecoveredTrigger(TRIGGER, TARGET, 1.0, 0.0, 2.0, "test")
METHODS = [method.name for method in sanitizers("auto")]


def context(backdoored: bool, *, found: bool = True, seconds: float = 600.0) -> RepairContext:
    given = samples(360)
    return RepairContext(
        classifier(trained(backdoored)),
        given.take(slice(0, 180)),
        given.take(slice(180, None)),
        [FOUND] if backdoored and found else [],
        Budget(seconds),
    )


def repaired(name: str, ctx: RepairContext) -> Repair | None:
    return sanitizers(name)[0].repair(ctx)


def changed(repair: Repair) -> dict[str, torch.Tensor]:
    return {n: torch.from_numpy(np.array(v)) for n, v in repair.changes.items()}


def test_unlearning_removes_a_recovered_trigger_and_keeps_the_accuracy() -> None:
    ctx = context(True)
    repair = repaired("unlearning", ctx)
    assert repair is not None
    assert twin_asr(ctx.classifier, ctx.held_out, FOUND) > 0.9
    assert twin_asr(ctx.classifier, ctx.held_out, FOUND, changed(repair)) < 0.1
    before = twin_accuracy(ctx.classifier, ctx.held_out)
    assert twin_accuracy(ctx.classifier, ctx.held_out, changed(repair)) >= before - 0.02


def test_unlearning_has_nothing_to_do_without_a_recovered_trigger() -> None:
    assert repaired("unlearning", context(True, found=False)) is None


@pytest.mark.parametrize("name", [m for m in METHODS if m != "activation-bounds"])
def test_a_clean_network_keeps_its_accuracy(name: str) -> None:
    ctx = context(False, seconds=15)
    repair = repaired(name, ctx)
    if repair is None:
        return
    before = twin_accuracy(ctx.classifier, ctx.held_out)
    after = twin_accuracy(ctx.classifier, ctx.held_out, changed(repair))
    assert after >= before - ctx.max_accuracy_drop
    stored = ctx.classifier.twin
    assert stored is not None
    for parameter, value in repair.changes.items():
        assert value.shape == tuple(stored.parameters[parameter].shape)
        assert np.isfinite(value).all()


@pytest.mark.parametrize("name", METHODS)
def test_no_time_is_no_error(name: str) -> None:
    ctx = context(True, seconds=0.0)
    repair = repaired(name, ctx)
    assert repair is None or all(np.isfinite(v).all() for v in repair.changes.values())


@pytest.mark.parametrize("name", METHODS)
def test_a_network_without_hidden_layers_is_left_alone_or_changed_whole(name: str) -> None:
    """Broken input for pruning: nothing but a head."""
    ctx = context(True, seconds=5)
    twin = ctx.classifier.twin
    assert twin is not None
    twin.layers = twin.layers[-1:]
    repair = repaired(name, ctx)
    if name in ("lipschitz-pruning", "adversarial-pruning", "fine-pruning", "activation-bounds"):
        assert repair is None
    else:
        assert repair is None or set(repair.changes) <= {"head.weight", "head.bias"}


def test_a_channel_that_amplifies_is_found_and_silenced_without_samples() -> None:
    ctx = context(False)
    twin = ctx.classifier.twin
    assert twin is not None
    weight = twin.parameters["conv.weight"].clone()
    weight[5] *= 30
    twin.parameters = {**twin.parameters, "conv.weight": weight}
    empty = ctx.held_out.take(slice(0, 0))
    free = dataclasses.replace(ctx, train=empty, held_out=empty, triggers=[])
    repair = repaired("lipschitz-pruning", free)
    assert repair is not None
    assert repair.record["u"] == 3.0
    assert not repair.changes["conv.weight"][5].any()
    assert repair.changes["conv.bias"][5] == 0
    assert repair.changes["conv.weight"][[0, 1, 2]].any()


def test_alike_channels_are_no_outliers() -> None:
    """Near miss: the same kernel in every channel."""
    ctx = context(False)
    twin = ctx.classifier.twin
    assert twin is not None
    same = twin.parameters["conv.weight"][:1].expand(16, -1, -1, -1).clone()
    twin.parameters = {**twin.parameters, "conv.weight": same}
    found = [b for b in blocks(ctx.classifier) if b.layer.name == "conv"]
    assert outliers(found, lipschitz_bounds(ctx.classifier, found, 0), 1.0) == []


def test_the_head_is_never_a_block_and_gains_are_one_without_normalisation() -> None:
    given = classifier(trained(False))
    found = blocks(given)
    assert [b.layer.name for b in found] == ["conv", "hidden"]
    assert all(bool((g == 1).all()) for g in gains(given, found, 0).values())
    parameters, masks = silenced(given, [(found[1], torch.tensor([0, 3]))])
    assert not parameters["hidden.weight"][[0, 3]].any()
    assert not parameters["hidden.bias"][[0, 3]].any()
    assert float(masks["hidden.bias"].sum()) == 30


def test_the_same_seed_gives_the_same_unlearning() -> None:
    first, second = (repaired("unlearning", context(True, seconds=600)) for _ in range(2))
    assert first is not None
    assert second is not None
    for name, value in first.changes.items():
        np.testing.assert_array_equal(value, second.changes[name])


def test_what_goes_to_the_target_anyway_is_no_living_trigger() -> None:
    """Judged is what each trigger adds to its own baseline, not to another's."""
    ctx = context(True)
    working = Judge(ctx).see({})
    assert working.excess > 0.9
    assert not working.clear
    usual = dataclasses.replace(FOUND, baseline=working.asr)
    assert Judge(dataclasses.replace(ctx, triggers=[usual])).see({}).clear
    both = Judge(dataclasses.replace(ctx, triggers=[usual, FOUND])).see({})
    assert both.excess == pytest.approx(working.excess)
    assert not both.clear


def test_training_ends_once_two_judgements_were_good(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    see = Judge.see

    def counted(self: Judge, parameters: Mapping[str, torch.Tensor]) -> Tuned:
        looks.append(see(self, parameters))
        return looks[-1]

    monkeypatch.setattr(Judge, "see", counted)
    endless = Tuning(steps=1000, judge_every=20, learning_rate=0.0, enough=2, recovered=False)
    fine_tune(context(False), {}, {}, endless)
    assert len(looks) == 2
    looks.clear()
    fine_tune(context(False), {}, {}, dataclasses.replace(endless, steps=100, enough=0))
    assert len(looks) == 5


def test_triggered_images_weigh_more_while_accuracy_can_be_spared() -> None:
    judge = Judge(context(True))
    middle = 0.5 * (judge.accuracy + judge.floor)
    alive = Tuned({}, middle, 0.5, True, excess=0.5)
    assert pushed(1.0, alive, judge, 6.0) > 1.0
    assert pushed(5.9, alive, judge, 6.0) == 6.0
    assert pushed(1.0, alive, judge, 1.0) == 1.0
    assert pushed(2.0, dataclasses.replace(alive, excess=0.0), judge, 6.0) == 2.0
    assert pushed(2.0, dataclasses.replace(alive, accuracy=judge.floor), judge, 6.0) == 2.0
    dear = dataclasses.replace(alive, acceptable=False)
    assert pushed(2.0, dear, judge, 6.0) < 2.0
    assert pushed(1.0, dear, judge, 6.0) == 1.0


def test_paired_drop_counts_disagreements_only() -> None:
    before = np.array([True] * 90 + [False] * 10)
    after = before.copy()
    after[:4] = False
    after[95] = True
    found = paired_drop(before, after)
    assert found.drop == pytest.approx(0.03)
    assert found.low < 0.03 < found.high
    assert found.n == 100
    still = paired_drop(before, before)
    assert still.drop == 0 and still.low < 0 < still.high < 0.03
    assert paired_drop(before[:0], before[:0]).n == 0
