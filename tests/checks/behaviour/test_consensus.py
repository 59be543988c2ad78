import numpy as np
import pytest

from auditor.checks.behaviour.consensus import ClassConsensus
from auditor.checks.interface import Incomplete, Skipped
from tests.checks.behaviour.fakes import context, outcomes
from tests.inversion.nets import trained


def planted(target=3):
    rng = np.random.default_rng(0)
    values = rng.normal(size=10)
    values[target] += 6.0
    return values


def test_it_adds_up_what_earlier_checks_left():
    ctx = context(trained(), n=60)
    for name in ("margin", "head.mean", "head.apart", "patch"):
        ctx.evidence.standings[name] = planted()
    seen = outcomes(ClassConsensus(), ctx)
    assert seen.metrics["consensus.target"] == 3
    assert len(seen.metrics["per_class"]) == 10
    assert {"class", "sum", "margin", "mean", "apart", "faint", "trigger"} <= set(
        seen.metrics["per_class"][0]
    )
    assert seen.metrics["measures"][3]["patch"] == pytest.approx(planted()[3], abs=1e-4)
    assert not seen.findings
    assert ctx.evidence.features["consensus.target"] == 3.0


def test_without_samples_only_the_weights_speak():
    ctx = context(trained())
    ctx.samples = None
    ctx.evidence.standings["head.mean"] = planted()
    seen = outcomes(ClassConsensus(), ctx)
    assert seen.metrics["consensus.target"] == 3
    assert seen.metrics["consensus.passes"] == 0
    assert "faint" not in seen.metrics["per_class"][0]


def test_the_data_free_sum_is_the_same_with_samples_and_without():
    sums = []
    for samples in (True, False):
        ctx = context(trained())
        ctx.samples = ctx.samples if samples else None
        ctx.evidence.standings.update({"margin": planted(2), "head.mean": planted()})
        outcomes(ClassConsensus(), ctx)
        features = ctx.evidence.features
        sums.append({k: v for k, v in features.items() if k.startswith("data_free.consensus")})
    assert sums[0] == sums[1]
    assert sums[0]["data_free.consensus.score"] > 4.0


def test_without_samples_and_weights_nothing_is_said():
    ctx = context(trained())
    ctx.samples = None
    with pytest.raises(Incomplete, match="no evidence per class"):
        outcomes(ClassConsensus(), ctx)


def test_a_class_not_reached_has_no_measure():
    ctx = context(trained())
    values = planted()
    values[5] = np.nan
    ctx.evidence.standings["patch"] = values
    seen = outcomes(ClassConsensus(), ctx)
    assert "patch" not in seen.metrics["measures"][5]


def test_three_classes_cannot_be_compared():
    with pytest.raises(Skipped, match="4 to 200 classes"):
        outcomes(ClassConsensus(), context(trained(), classes=3))


def test_a_spent_budget_is_no_measurement():
    ticks = iter(range(0, 10_000, 100))
    with pytest.raises(Incomplete, match="time budget"):
        outcomes(ClassConsensus(), context(trained(), seconds=1.0, clock=lambda: next(ticks)))
