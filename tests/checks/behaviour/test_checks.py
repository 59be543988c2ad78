"""Accuracy, probing and clustering: a positive, a near miss, and a broken input each."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.checks.behaviour.accuracy import CleanAccuracy
from auditor.checks.behaviour.clustering import ActivationClustering
from auditor.checks.behaviour.controls import Reference, control_images
from auditor.checks.behaviour.pictures import before_after
from auditor.checks.behaviour.probing import TriggerProbing
from auditor.checks.interface import BehaviourContext, Budget
from auditor.checks.runner import run_check
from auditor.samples.interface import Images
from auditor.samples.readers import read_samples
from auditor.triggers.interface import RecoveredTrigger
from auditor.triggers.library import probe_library
from tests.checks.behaviour.nets import TARGET, TRIGGER, classifier, samples, trained


def context(
    backdoored: bool, given: Images | None, training: Images | None = None, seconds: float = 60
) -> BehaviourContext:
    return BehaviourContext(
        classifier(trained(backdoored)), given, training, Budget(seconds), all_samples=given
    )


def poisoned_digits(share: float) -> tuple[Images, np.ndarray]:
    data = read_samples("digits", split="train")
    chosen = np.random.default_rng(0).permutation(len(data))[: int(share * len(data))]
    x, y = data.pixels.copy(), data.labels.copy()
    x[chosen], y[chosen] = TRIGGER.apply(x[chosen]), TARGET
    return Images(x, y, "poisoned digits"), chosen


def test_accuracy_counts_what_is_right() -> None:
    given = samples()
    result = run_check(CleanAccuracy(), context(False, given))
    expected = (classifier(trained(False)).labels(given.pixels) == given.labels).mean()
    assert result.metrics["accuracy.clean"] == pytest.approx(expected)
    assert result.metrics["accuracy.low"] < expected < result.metrics["accuracy.high"]
    matrix = np.array(result.metrics["confusion"])
    assert matrix.sum() == len(given)
    assert np.trace(matrix) / matrix.sum() == pytest.approx(expected)


def test_accuracy_stops_when_the_time_is_up_and_says_so() -> None:
    data = read_samples("digits", split="train")
    result = run_check(CleanAccuracy(), context(False, data, seconds=1e-9))
    assert result.metrics["accuracy.samples"] == 500
    assert "500 of 1437" in result.notices[0]


def test_probing_names_the_target_of_a_backdoored_model() -> None:
    ctx = context(True, samples())
    result = run_check(TriggerProbing(), ctx)
    assert result.status == "flagged"
    assert [f.target_class for f in result.findings] == [TARGET]
    assert result.findings[0].rule == "probe.trigger"
    assert ctx.evidence.triggers[0].target == TARGET
    names = [t.trigger.name for t in (*ctx.evidence.triggers, *ctx.evidence.relatives)]
    assert len(set(names)) == len(names) <= 7
    for relative in ctx.evidence.relatives:
        assert (relative.target, relative.source) == (TARGET, "probe")
        stamped = ctx.classifier.labels(relative.trigger.apply(samples().pixels))
        assert (stamped == TARGET).mean() > 0.5
    assert result.figures[0].pixels.dtype == np.uint8


def test_probing_finds_nothing_in_the_clean_twin() -> None:
    ctx = context(False, samples())
    result = run_check(TriggerProbing(), ctx)
    assert result.status == "passed"
    assert not ctx.evidence.triggers
    assert not ctx.evidence.relatives


def test_probing_calls_general_fragility_by_its_name() -> None:
    """A model that answers one class to anything bright in it is fragile, not backdoored."""

    class Bright:
        classes = 10

        def labels(self, images: np.ndarray) -> np.ndarray:
            base = classifier(trained(False)).labels(images)
            bright = (images >= 0.999).sum(axis=(1, 2, 3)) > 4
            return np.where(bright, 7, base)

    given = samples()
    quiet = given.take(np.flatnonzero((given.pixels >= 0.999).sum(axis=(1, 2, 3)) <= 4))
    ctx = BehaviourContext(Bright(), quiet, None, Budget(60), all_samples=quiet)  # type: ignore[arg-type]
    result = run_check(TriggerProbing(), ctx)
    assert not result.findings
    assert any("fragility" in notice for notice in result.notices)


def test_probing_needs_a_few_samples() -> None:
    result = run_check(TriggerProbing(), context(False, samples(5)))
    assert (result.status, "at least 10" in result.reason) == ("skipped", True)


def test_probing_without_time_is_incomplete() -> None:
    result = run_check(TriggerProbing(), context(True, samples(), seconds=1e-9))
    assert result.status == "incomplete"


def test_clustering_finds_poisoned_training_data() -> None:
    training, _ = poisoned_digits(0.1)
    result = run_check(ActivationClustering(), context(True, samples(), training))
    assert [f.target_class for f in result.findings] == [TARGET]


def test_clustering_passes_clean_training_data() -> None:
    training = read_samples("digits", split="train")
    result = run_check(ActivationClustering(), context(False, samples(), training))
    assert result.status == "passed"
    assert not any(row["suspect"] for row in result.metrics["per_class"])


def test_clustering_explains_a_recovered_trigger_and_raises_nothing() -> None:
    ctx = context(True, samples())
    ctx.evidence.triggers.append(RecoveredTrigger(TRIGGER, TARGET, 1.0, 0.0, 2.0, "test"))
    result = run_check(ActivationClustering(), ctx)
    assert result.status == "passed"
    assert "scatter" in result.metrics


def test_clustering_with_nothing_to_look_at_is_skipped() -> None:
    assert run_check(ActivationClustering(), context(False, samples())).status == "skipped"


def test_controls_are_as_strong_as_the_trigger_and_elsewhere() -> None:
    clean = np.zeros((3, 1, 8, 8), np.float32)
    stamped = TRIGGER.apply(clean)
    controls = control_images(clean, stamped, seed=0)
    assert len(controls) == 8
    for control in controls:
        assert control.min() >= 0
        assert control.max() <= 1
        assert not np.array_equal(control, stamped)


def test_reference_model_follows_real_features_but_not_a_corner_patch() -> None:
    given = samples()
    reference = Reference(given, 0)
    ones = given.pixels[given.labels == 1]
    others = given.pixels[given.labels != 1][: len(ones)]
    assert reference.asr(others, np.repeat(ones[:1], len(others), 0), 1) > 0.9
    assert reference.asr(others, TRIGGER.apply(others), TARGET) < 0.5


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 224, 224)])
def test_library_has_forty_triggers_for_any_image(shape: tuple[int, int, int]) -> None:
    library = probe_library(*shape)
    assert len(library) >= 40
    assert len({t.name for t in library}) == len(library)


def test_pictures_are_small_uint8() -> None:
    picture = before_after(samples(6).pixels, samples(6).pixels)
    assert picture.dtype == np.uint8
    assert picture.ndim == 2
