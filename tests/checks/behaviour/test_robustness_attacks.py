"""The attack checks: what they report is what the artifact does."""

import itertools
import json

import numpy as np
import pytest
import torch

from auditor.attacks.fgsm import FGSM
from auditor.attacks.interface import gradient
from auditor.attacks.losses import cross_entropy
from auditor.checks.behaviour.robustness_fgsm import FgsmRobustness
from auditor.checks.behaviour.robustness_pgd import PgdRobustness
from auditor.checks.behaviour.robustness_square import SquareRobustness
from auditor.checks.behaviour.robustness_worst_case import WorstCaseRobustness
from auditor.checks.interface import Skipped
from tests.attacks.nets import digits, trained
from tests.checks.behaviour.fakes import context, images, outcomes

CHECKS = [FgsmRobustness, PgdRobustness, SquareRobustness, WorstCaseRobustness]
QUICK = {
    "robustness.epsilons": [0.05, 0.2],
    "robustness.steps": 10,
    "robustness.queries": 40,
    "robustness.worst_case_steps": 6,
    "robustness.worst_case_queries": 20,
}


@pytest.mark.parametrize("check", CHECKS)
def test_checks_report_figures_a_report_can_hold(check):
    got = outcomes(check(), context(trained("cnn"), options=QUICK))
    assert got.metrics[f"{check.name}.n"] == 60
    json.dumps(got.metrics, allow_nan=False)
    values = [v for name, v in got.metrics.items() if "@" in name]
    assert values and all(0 <= v <= 1 for v in values)
    for row in got.metrics[f"{check.name}.curve"]:
        assert row["low"] <= row["accuracy"] <= row["high"] and row["n"] == 60
    assert not got.notices


@pytest.mark.parametrize("check", CHECKS)
def test_same_seed_same_figures(check):
    runs = [outcomes(check(), context(trained("cnn"), options=QUICK)).metrics for _ in range(2)]
    assert runs[0] == runs[1]


def test_fgsm_figure_is_the_definition():
    net = trained("mlp")
    _, _, x, y = digits()
    x, y = x[:60], y[:60]
    grad = gradient(lambda z: cross_entropy(net(z), y), x)
    moved = (x + 0.2 * grad.sign()).clamp(0, 1)
    right = (net(x).argmax(1) == y) & (net(moved).argmax(1) == y)
    got = outcomes(FgsmRobustness(), context(net, options=QUICK))
    assert got.metrics["robustness.fgsm@0.2"] == pytest.approx(float(right.double().mean()))


def test_stronger_attacks_and_larger_epsilons_leave_less():
    options = {**QUICK, "robustness.epsilon": 0.2}
    net = trained("cnn")
    fgsm = outcomes(FgsmRobustness(), context(net, options=options)).metrics
    pgd = outcomes(PgdRobustness(), context(net, options=options)).metrics
    worst = outcomes(WorstCaseRobustness(), context(net, options=options)).metrics
    assert fgsm["robustness.fgsm@0.2"] >= pgd["robustness.pgd@0.2"]
    assert pgd["robustness.pgd@0.05"] > pgd["robustness.pgd@0.2"]
    assert worst["robustness.worst-case@0.2"] <= pgd["robustness.pgd@0.2"] + 1e-9
    assert sum(worst["robustness.worst-case.broken_by"].values()) > 0


def test_pgd_tells_adversarially_trained_from_ordinary():
    ordinary = outcomes(PgdRobustness(), context(trained("cnn"), options=QUICK))
    hardened = outcomes(PgdRobustness(), context(trained("cnn", adversarial=0.15), options=QUICK))
    name = "robustness.pgd@0.2"
    assert hardened.metrics[name] > ordinary.metrics[name] + 0.2
    assert [f.rule for f in ordinary.findings] == ["robustness.low"]
    assert ordinary.findings[0].severity.word == "info"
    assert ordinary.figures and ordinary.figures[0].pixels.dtype == np.uint8


def test_smallest_perturbations_are_ordered_and_inside_the_grid():
    metrics = outcomes(PgdRobustness(), context(trained("cnn"), options=QUICK)).metrics
    q10 = metrics["robustness.pgd.perturbation.q10"]
    q25 = metrics["robustness.pgd.perturbation.q25"]
    assert 0 < q10 <= q25 <= 0.2 + 1e-6


def test_only_what_fools_the_artifact_counts():
    """The twin is a different network: attacks on it must not be counted unseen."""
    twin, artifact = trained("mlp"), trained("cnn")
    got = outcomes(FgsmRobustness(), context(twin, native=artifact, options=QUICK)).metrics
    samples = images()
    x, y = torch.from_numpy(samples.pixels), torch.from_numpy(samples.labels)
    moved = FGSM(0.05)(twin, x, y).images
    right = float((artifact(moved).argmax(1) == y).double().mean())
    assert got["robustness.fgsm@0.05"] == pytest.approx(right)
    assert right > float((twin(moved).argmax(1) == y).double().mean())


def test_square_needs_no_twin_and_the_others_say_so():
    ctx = context(trained("cnn"), twin=False, options={**QUICK, "robustness.epsilon": 0.2})
    assert outcomes(SquareRobustness(), ctx).metrics["robustness.square@0.2"] < 0.95
    for check in (FgsmRobustness, PgdRobustness, WorstCaseRobustness):
        with pytest.raises(Skipped):
            outcomes(check(), ctx)


@pytest.mark.parametrize("check", CHECKS)
def test_a_short_budget_takes_fewer_samples_and_says_so(check):
    """A clock that makes every call look slow."""
    ticks = itertools.count(0, 0.02)
    ctx = context(trained("cnn"), n=200, seconds=1.0, options=QUICK, clock=lambda: next(ticks))
    # A measured cost of microseconds would let all samples in: the time left is what counts.
    ctx.budget.seconds = 1e-2 + ctx.budget.clock()
    try:
        got = outcomes(check(), ctx)
    except Exception as stop:
        assert type(stop).__name__ == "Incomplete"
    else:
        assert got.metrics[f"{check.name}.n"] < 200
        assert any("time budget" in notice for notice in got.notices)
