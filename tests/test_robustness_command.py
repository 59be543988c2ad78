"""``audit robustness``: the same figures in both formats, its options, and trust in the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditor.app import run

FORMATS = (".onnx", ".pt")
SIX = "fgsm,pgd,worst-case,square,fooling,certificate"
QUICK = ("--steps", "10", "--queries", "100", "--jobs", "1", "--no-images")


def attack(
    capsys: pytest.CaptureFixture[str], model: Path, out: Path, *options: str
) -> dict[str, Any]:
    """The JSON report of ``audit robustness`` with generous time: `n` must not depend on it."""
    base = ("robustness", str(model), "--data", "digits", "--out", str(out), "--json")
    code = run([*base, "--budget", "280", *QUICK, *options])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == report["exit_code"]
    return report


def metrics(report: dict[str, Any]) -> dict[str, Any]:
    return {k: v for check in report["checks"] for k, v in check["metrics"].items()}


def figures(report: dict[str, Any]) -> dict[str, float]:
    """Rates that must agree: accuracies per epsilon and fooling rates."""
    names = ("robustness.fooling.", "robustness.confident.")
    return {
        k: v
        for k, v in metrics(report).items()
        if "@" in k or (k.startswith(names) and isinstance(v, float))
    }


def test_all_six_give_the_same_figures_in_both_formats(
    digits_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--attack", SIX, "--epsilon", "0.02", "--epsilon", "0.1", "--max-samples", "200")
    first, second = (
        attack(capsys, digits_zoo / f"adversarial{suffix}", tmp_path, *options)
        for suffix in FORMATS
    )
    for report in (first, second):
        assert {c["status"] for c in report["checks"] if c["name"].startswith("rob")} == {"passed"}
        counts = {k: v for k, v in metrics(report).items() if k.endswith(".n")}
        assert len(counts) == 5 and set(counts.values()) == {200}
    ours, theirs = figures(first), figures(second)
    assert {k.split("@")[0] for k in ours if "@" in k} == {
        f"robustness.{name}" for name in ("fgsm", "pgd", "worst-case", "square", "certificate")
    }
    assert {"robustness.fooling.noise", "robustness.fooling.blank"} <= set(ours)
    assert ours == pytest.approx(theirs, abs=0.005)
    assert 0 < ours["robustness.certificate@0.02"] < 1
    for value in ("0.02", "0.1"):
        bounds = [ours[f"robustness.{n}@{value}"] for n in ("certificate", "worst-case", "fgsm")]
        assert bounds == sorted(bounds)


def test_one_attack_in_l2_with_epsilon_in_the_report(
    digits_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--attack", "apgd", "--attack", "fgsm", "--norm", "l2", "--max-samples", "50")
    report = attack(capsys, digits_zoo / "clean.pt", tmp_path, *options, "--epsilon", "1")
    got = metrics(report)
    assert got["robustness.apgd.l2@1"] <= got["robustness.fgsm.l2@1"] < got["accuracy.clean"]
    assert set(got["robustness.apgd.l2.broken_by"]) <= {"apgd", "apgd-dlr-targeted"}
    assert not any(name.startswith("robustness.pgd") for name in got)
    assert any("Epsilon is in 0..1 image units" in notice for notice in report["notices"])
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_smoothing_on_request_certifies_the_vote_under_noise(
    digits_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--attack", "certificate", "--smoothing", "0.2", "--max-samples", "20")
    got = metrics(attack(capsys, digits_zoo / "clean.onnx", tmp_path, *options))
    assert got["robustness.smoothed.sigma"] == 0.2
    assert not any(name.startswith("robustness.certificate") for name in got)
    assert got["robustness.smoothed@0"] > 0.5 and got["robustness.smoothed.n"] == 20
    assert got["robustness.smoothed@0.2"] <= got["robustness.smoothed@0.1"]


def test_pictures_classes_and_smallest_changes_are_in_the_reports(
    digits_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ("robustness", str(digits_zoo / "clean.onnx"), "--data", "digits", "--attack", "pgd")
    code = run([*base, "--max-samples", "60", "--steps", "10", "--jobs", "1", "--quiet",
                "--out", str(tmp_path), "--format", "json,html"])  # fmt: skip
    capsys.readouterr()
    report = json.loads((tmp_path / "report.json").read_text())
    got = metrics(report)
    assert code == 0
    for row in got["robustness.pgd.curve"]:
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 and row["n"] == 60
    assert {row["class"] for row in got["robustness.pgd.per_class"][0]["classes"]} == set(range(10))
    quantiles = [got[f"robustness.pgd.perturbation.q{share}"] for share in (10, 25, 50)]
    assert 0 < quantiles[0] <= quantiles[1] <= quantiles[2] <= 0.3
    page = (tmp_path / "report.html").read_text()
    assert "difference amplified" in page and "data:image/png;base64," in page


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--attack", "laser"), "laser"),
        (("--attack", "square", "--norm", "l2"), "linf only"),
        (("--norm", "l7"), "--norm"),
        (("--epsilon", "8"), "0..1"),
        (("--epsilon", "nan"), "0..1"),
        (("--epsilon", "-1"), "0..1"),
        (("--smoothing", "0"), "--smoothing"),
        (("--smoothing", "0.1", "--attack", "pgd"), "certificate"),
        (("--fail-on", "sometimes"), "--fail-on"),
    ],
)
def test_wrong_options_are_exit_2_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    out = tmp_path / "out"
    assert run(["robustness", "x.onnx", "--data", "digits", "--out", str(out), *options]) == 2
    said = capsys.readouterr()
    assert words in said.err and said.out == ""
    assert not out.exists()


@pytest.mark.parametrize("name", ["clean", "adversarial"])
def test_ordinary_and_fgsm_trained_models_are_not_masked(
    digits_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    report = attack(capsys, digits_zoo / f"{name}.onnx", tmp_path, "--attack", "masking")
    assert metrics(report)["robustness.masked"] is False
    assert report["verdict"] == "pass"


@pytest.mark.parametrize(
    ("recipe", "masked"),
    [
        ("distilled", True),
        ("sign-activation", True),
        pytest.param("collapsed-fgsm", True, marks=pytest.mark.slow),
        pytest.param("pgd", False, marks=pytest.mark.slow),
    ],
)
def test_models_that_hide_their_gradients_are_told_from_robust_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str, masked: bool
) -> None:
    from zoo.datasets import load_dataset
    from zoo.recipes.registry import Workshop, resolve

    shop = Workshop(load_dataset("digits"), tmp_path / "zoo")
    resolve([recipe])[0].run(shop)
    (manifest,) = shop.manifests
    assert manifest.accepted
    model = shop.out / f"{recipe}.onnx"
    report = attack(capsys, model, tmp_path, "--attack", "masking")
    assert metrics(report)["robustness.masked"] is masked
    rules = [f["rule"] for f in report["findings"] if f["rule"].startswith("robustness")]
    assert rules == (["robustness.masking"] if masked else [])
