import numpy as np
import pytest

from auditor.checks.behaviour.inversion import TriggerInversion
from auditor.checks.interface import Incomplete, Skipped
from auditor.findings import Severity
from tests.checks.behaviour.fakes import context, outcomes
from tests.inversion.nets import trained


@pytest.fixture(scope="module")
def backdoored():
    ctx = context(trained(target=3, strength=60.0), n=200)
    return ctx, outcomes(TriggerInversion(), ctx)


def test_a_planted_class_is_found_named_and_shown(backdoored):
    _, seen = backdoored
    (finding,) = seen.findings
    assert finding.rule == "inversion.trigger"
    assert finding.severity == Severity.HIGH
    assert finding.target_class == 3
    assert seen.metrics["inversion.target"] == 3
    assert seen.metrics["inversion.asr"] > 0.8
    assert {f.name for f in seen.figures} >= {"inversion-patch", "inversion-patch-stamped"}
    assert not next(f for f in seen.figures if f.name == "inversion-patch").from_samples


def test_later_checks_get_the_trigger_and_the_features(backdoored):
    ctx, _ = backdoored
    assert {t.target for t in ctx.evidence.triggers} == {3}
    for trigger in ctx.evidence.triggers:
        assert trigger.source.startswith("inversion.")
        assert trigger.trigger.apply(ctx.samples.pixels).shape == ctx.samples.pixels.shape
    assert all(isinstance(v, float) and np.isfinite(v) for v in ctx.evidence.features.values())
    assert ctx.evidence.features["inversion.patch.log_gap"] > 0.5


def test_the_table_has_every_class(backdoored):
    _, seen = backdoored
    table = seen.metrics["per_class"]
    assert [row["class"] for row in table] == list(range(10))
    assert "patch held-out ASR" in table[3]


def test_a_clean_network_is_not_flagged():
    ctx = context(trained(), n=200)
    seen = outcomes(TriggerInversion(), ctx)
    assert not seen.findings
    assert not ctx.evidence.triggers
    assert seen.metrics["inversion.gap.patch"] < 1.6


def test_same_seed_same_figures():
    runs = [outcomes(TriggerInversion(), context(trained(3, 60.0), n=80)) for _ in range(2)]
    assert runs[0].metrics == runs[1].metrics


def test_without_enough_samples_it_is_skipped():
    with pytest.raises(Skipped, match="30"):
        outcomes(TriggerInversion(), context(trained(), n=20))


def test_a_spent_budget_is_incomplete_and_not_a_finding():
    now = iter(float(i) for i in range(100_000))
    ctx = context(trained(3, 60.0), n=80, seconds=40, clock=lambda: next(now))
    with pytest.raises(Incomplete, match="time budget"):
        outcomes(TriggerInversion(), ctx)
