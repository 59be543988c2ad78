"""Certificate, masking, fooling and corruption checks on small nets."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn

from auditor.checks.behaviour.robustness_certificate import CertifiedRobustness
from auditor.checks.behaviour.robustness_corrupted import CORRUPTIONS, SEVERITIES
from auditor.checks.behaviour.robustness_corruptions import CorruptionRobustness
from auditor.checks.behaviour.robustness_fooling import FoolingInputs, probabilities
from auditor.checks.behaviour.robustness_masking import GradientMasking
from auditor.checks.behaviour.robustness_worst_case import WorstCaseRobustness
from auditor.checks.interface import Skipped
from tests.attacks.nets import Scale, digits, trained
from tests.checks.behaviour.fakes import context, outcomes

CHECKS = [CertifiedRobustness, GradientMasking, FoolingInputs, CorruptionRobustness]
QUICK = {"robustness.masking_queries": 60, "robustness.fooling_steps": 60}


@pytest.mark.parametrize("check", CHECKS)
def test_figures_are_plain_and_repeatable(check):
    runs = [
        outcomes(check(), context(trained("mlp"), n=40, options=QUICK)).metrics for _ in range(2)
    ]
    assert runs[0] == runs[1] and runs[0]
    json.dumps(runs[0], allow_nan=False)


def test_truth_is_bracketed_by_certificate_and_attack():
    for kind in ("mlp", "cnn"):
        net = trained(kind, adversarial=0.08, epochs=12)
        for value in (0.02, 0.05):
            options = {
                "robustness.epsilons": [value],
                "robustness.epsilon": value,
                "robustness.worst_case_steps": 15,
            }
            lower = outcomes(CertifiedRobustness(), context(net, options=options)).metrics
            upper = outcomes(WorstCaseRobustness(), context(net, options=options)).metrics
            low = lower[f"robustness.certificate@{value}"]
            assert 0 < low <= upper[f"robustness.worst-case@{value}"]
            assert lower["robustness.certificate.interval"][0]["accuracy"] <= low


def test_networks_without_bounds_are_smoothed_and_the_report_says_why():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.GELU(), nn.Linear(16, 10)).eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    got = outcomes(CertifiedRobustness(), context(net, n=10, options={"robustness.draws": 100}))
    assert "gelu" in got.notices[0]
    assert got.metrics["robustness.smoothed.n"] == 10
    assert got.metrics["robustness.smoothed@0"] >= got.metrics["robustness.smoothed@0.1"]
    assert not any("certificate@" in name for name in got.metrics)


def test_masking_finding_says_the_figure_is_not_to_be_trusted():
    masked = outcomes(GradientMasking(), context(trained("sign"), n=80, options=QUICK))
    assert [f.rule for f in masked.findings] == ["robustness.masking"]
    assert masked.findings[0].severity.word == "medium" and masked.metrics["robustness.masked"]
    ordinary = outcomes(GradientMasking(), context(trained("cnn"), n=80, options=QUICK))
    assert not ordinary.findings and ordinary.metrics["robustness.masked"] is False


def test_masking_needs_samples_that_are_right_and_a_model_that_decides():
    constant = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Scale(0.0)).eval()
    with pytest.raises(Skipped, match="same class"):
        outcomes(GradientMasking(), context(constant))
    torch.manual_seed(0)
    with pytest.raises(Skipped, match="correctly"):
        outcomes(GradientMasking(), context(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()))


def test_fooling_images_fool_the_artifact_and_a_constant_model_cannot_be_fooled():
    got = outcomes(FoolingInputs(), context(trained("cnn"), options=QUICK))
    assert got.metrics["robustness.fooling.noise"] >= 0.9
    assert got.figures and not got.figures[0].from_samples
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Scale(0.0)).eval()
    got = outcomes(FoolingInputs(), context(flat, options=QUICK))
    assert got.metrics["robustness.fooling.noise"] == 0
    assert got.metrics["robustness.confident.uniform"] == 0


def test_confidence_is_read_from_the_artifact_not_the_twin():
    twin, unsure = trained("cnn"), nn.Sequential(trained("cnn"), Scale(1e-3))
    got = outcomes(FoolingInputs(), context(twin, native=unsure, options=QUICK))
    assert got.metrics["robustness.fooling.noise"] == 0


def test_probabilities_are_recognised():
    logits = np.array([[2.0, 1.0, -1.0], [0.5, 0.2, 0.3]], np.float32)
    right = torch.from_numpy(logits).double().softmax(1).numpy()
    for given in (logits, right, np.log(right)):
        assert np.allclose(probabilities(np.asarray(given, np.float32)), right, atol=1e-5)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 24)])
def test_corruptions_keep_the_form_and_grow_with_severity(kind, shape):
    rng = np.random.default_rng(0)
    from scipy import ndimage

    images = ndimage.gaussian_filter(rng.random((8, *shape), np.float32), (0, 0, 1, 1))
    images = (images - images.min()) / (images.max() - images.min())
    before = images.copy()
    change = []
    for severity in SEVERITIES:
        out = CORRUPTIONS[kind](images, severity, np.random.default_rng(1))
        assert out.shape == images.shape and out.dtype == np.float32
        assert out.min() >= 0 and out.max() <= 1
        change.append(float(np.abs(out - images).mean()))
    assert np.array_equal(images, before)
    assert 0 < change[0] < change[-1]
    assert all(b >= a - 1e-4 for a, b in itertools.pairwise(change))


def test_corruption_figures_are_native_accuracies():
    got = outcomes(CorruptionRobustness(), context(trained("cnn"), twin=False)).metrics
    _, _, x, y = digits()
    images = CORRUPTIONS["contrast"](x[:60].numpy(), 5, np.random.default_rng(0))
    right = trained("cnn")(torch.from_numpy(images)).argmax(1) == y[:60]
    row = next(
        r
        for r in got["robustness.corruption.table"]
        if r["corruption"] == "contrast" and r["severity"] == 5
    )
    assert row["accuracy"] == pytest.approx(float(right.double().mean()))
    assert len(got["robustness.corruption.table"]) == 30
