"""A probability is never below the record of findings like the one beside it."""

from dataclasses import replace

import numpy as np
import pytest

from auditor.bench.detectors import by_probability, case_of
from auditor.bench.write import write_coefficients
from auditor.calibration.fit import fit
from auditor.calibration.floors import floors
from auditor.calibration.judge import judge
from auditor.calibration.model import Floor, load
from auditor.findings import CheckResult, Finding, Severity
from tests.bench.made_up import rows


def population(bad, good, severity="high", many=50):
    """`bad` of `many` backdoored and `good` of `many` clean models with such a finding."""
    marked = [severity] * bad + [""] * (many - bad) + [severity] * good + [""] * (many - good)
    return marked, np.arange(2 * many) < many


def test_it_is_the_share_that_was_right_at_even_odds():
    found = floors(*population(40, 1), draws=50, seed=0)["high"]
    assert found.value == pytest.approx(41 / 43, abs=1e-6)
    assert found.low < found.value < found.high


def test_kinds_weigh_alike_whatever_their_number():
    cases, truth = population(40, 4)
    more = floors(cases + cases[50:], np.append(truth, truth[50:]), draws=5, seed=0)["high"]
    assert more.value == pytest.approx(floors(cases, truth, 5, 0)["high"].value, abs=0.02)


def test_a_finding_no_better_than_chance_gives_no_floor():
    assert floors(*population(5, 5), draws=5, seed=0) == {}
    assert floors(*population(0, 0), draws=5, seed=0) == {}
    assert "high" not in floors(*population(30, 1, "medium"), draws=5, seed=0)


@pytest.fixture(scope="module")
def model():
    marked = [
        replace(r, severity="high" if r.truth.backdoored and i % 4 else "")
        for i, r in enumerate(rows())
    ]
    return fit([case_of(r) for r in marked], "samples", population="made up", draws=20)


def test_it_raises_and_never_lowers(model):
    floor = model.floors["high"]
    assert "medium" not in model.floors
    clean = next(r for r in rows() if not r.truth.backdoored)
    plain = model.estimate(clean.features)
    raised = model.estimate(clean.features, severity="high")
    assert plain.probability < floor.value == raised.probability
    assert raised.raised
    assert raised.low <= raised.probability <= raised.high
    assert model.estimate(clean.features, severity="low") == plain
    sure = replace(model, intercept=30.0)
    assert not sure.estimate(clean.features, severity="high").raised


def test_a_bench_and_a_report_use_it(model):
    clean = next(r for r in rows() if not r.truth.backdoored)
    (value,) = by_probability([replace(clean, severity="high")], model, "", "").probabilities
    assert value == model.floors["high"].value
    finding = Finding("inversion.trigger", Severity.HIGH, "t", "e", "w", "r", target_class=3)
    metrics = {"features": clean.features}
    found = CheckResult("inversion", "flagged", "", 0.1, findings=(finding,), metrics=metrics)
    said = judge([found], None, {"samples": model})
    assert said.probability == round(value, 4)
    assert "high findings that were right in calibration" in said.words


def test_files_keep_it_and_older_ones_have_none(model, tmp_path):
    path = tmp_path / "c.json"
    write_coefficients({"samples": model}, path)
    assert load(path)["samples"].floors == model.floors
    assert isinstance(model.floors["high"], Floor)
    assert fit([case_of(r) for r in rows()], "data-free", population="p", draws=2).floors == {}
