"""Each method alone: what it proposes, what it says, what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.poison.clustering import ActivationClustering, coordinates, two_means
from auditor.poison.content import ContentProbe, margins
from auditor.poison.duplicates import Duplicates
from auditor.poison.engine import examine
from auditor.poison.interface import (
    Candidate,
    Method,
    NotApplicable,
    Study,
    Suspects,
    nothing,
)
from auditor.poison.label_noise import LabelNoise, error_chance, fit_noise, softmax
from auditor.poison.outliers import Outliers
from auditor.poison.reclassify import Reclassification
from auditor.poison.residual import match_scores, recover, weighted_moments
from auditor.poison.spectral import RobustWhitening, SpectralSignatures, que_scores, upper_end
from auditor.poison.superimpose import Superimposing, as_chances
from auditor.poison.trigger import TriggerSearch
from tests.poison.sets import CLASSES, clean, model, poisoned, shapes, study


def test_clustering_proposes_the_poison_and_flags_nothing() -> None:
    bad_set, bad = poisoned()
    result = ActivationClustering().run(bad_set)
    assert not result.flagged.any()
    small = next(
        c for c in bad_set.candidates if c.label == 2 and c.source == "clustering-pca-small"
    )
    assert bad[small.members].mean() > 0.9


def test_two_means_of_equal_points_is_no_split() -> None:
    split = two_means(np.zeros((30, 3)), 0)
    assert (split.share, split.silhouette) == (0.0, 0.0)
    assert coordinates(np.ones((30, 4), np.float32), 0)["pca"].shape == (30, 1)


@pytest.mark.parametrize("method", [SpectralSignatures, RobustWhitening])
def test_spectral_methods_rank_far_samples_high(method: type[Method]) -> None:
    rng = np.random.default_rng(0)
    activations = rng.standard_normal((400, 8)).astype(np.float32)
    activations[:20, 3] += 12
    images, _ = shapes(400)
    one = Study(Suspects(images, np.zeros(400, np.int64)), activations, activations)
    score = method().run(one).score
    assert score[:20].min() > np.median(score)
    assert len(one.candidates) == 1


def test_que_scores_survive_constant_activations() -> None:
    assert np.isfinite(que_scores(np.zeros((50, 4), np.float32))).all()


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60))
@settings(max_examples=50, deadline=None)
def test_the_upper_end_is_an_upper_set(values: list[float]) -> None:
    array = np.array(values)
    upper = upper_end(array)
    if upper.any():
        assert array[upper].min() > array[~upper].max()


def test_forgetting_equals_training_without() -> None:
    images, labels = shapes(300)
    probe = ContentProbe.fit(Suspects(images, labels), 0)
    gone = np.arange(40)
    kept = np.arange(40, 300)
    x, y = probe.features[kept].astype(np.float64), probe.targets[kept]
    direct = np.linalg.solve(x.T @ x + 3e-3 * len(kept) * np.eye(x.shape[1]), x.T @ y)
    np.testing.assert_allclose(probe.forgetting(gone), direct, atol=2e-3)
    assert (probe.held_out.argmax(axis=1) == labels).mean() > 0.95


def test_margins_are_positive_for_another_class() -> None:
    scores = np.array([[1.0, 0.2, 0.0], [0.1, 0.9, 0.3]], np.float32)
    np.testing.assert_allclose(margins(scores, 0), [-0.8, 0.8], rtol=1e-5)


def test_reclassification_spares_a_natural_group() -> None:
    good = clean()
    mine = np.flatnonzero(good.labels == 1)
    good.candidates.append(Candidate(1, mine[: len(mine) // 4], "test"))
    assert not Reclassification().run(good).flagged.any()
    assert good.confirmed == {}


def test_a_memorised_wrong_label_is_no_backdoor_without_the_models_agreement() -> None:
    images, labels = shapes(1200)
    wrong = np.random.default_rng(0).choice(1200, 120, replace=False)
    labels[wrong] = 2
    flipped = study(images, labels)  # this model still says what the images show
    result = examine(flipped)
    assert flipped.confirmed == {}
    assert any(f.rule == "data.wrong-labels" for f in result.findings)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
def test_flipped_labels_are_found_with_the_right_suggestion(rate: float) -> None:
    images, labels = shapes(1500)
    rng = np.random.default_rng(3)
    wrong = rng.random(1500) < rate
    given_labels = labels.copy()
    given_labels[wrong] = (labels[wrong] + rng.integers(1, CLASSES, wrong.sum())) % CLASSES
    result = LabelNoise().run(study(images, given_labels))
    assert result.flagged[wrong].mean() >= 0.9
    assert wrong[result.flagged].mean() >= 0.85  # few and noisy; docs/data.md has MNIST's
    assert result.suggested is not None
    both = wrong & result.flagged
    assert (result.suggested[both] == labels[both]).mean() > 0.95
    assert abs(result.metrics["labels.noise_rate"] - rate) < 0.03


def test_random_labels_are_refused_with_a_reason() -> None:
    images, _ = shapes(600)
    with pytest.raises(NotApplicable, match="agrees with only"):
        LabelNoise().run(study(images, np.random.default_rng(9).integers(0, CLASSES, 600)))


@given(st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_fitted_noise_is_a_share_and_chances_are_chances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((60, 4)).astype(np.float32)
    labels = rng.integers(0, 4, 60)
    fit = fit_noise(scores, labels)
    assert 0 <= fit.rate <= 1
    chances = softmax(scores.astype(np.float64) / fit.temperature)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    posterior = error_chance(chances, labels, fit.rate)
    assert ((posterior >= 0) & (posterior <= 1)).all()


def test_a_patch_and_a_blend_are_recovered_from_moments() -> None:
    rng = np.random.default_rng(0)
    plain = rng.uniform(0, 1, (800, 1, 10, 10)).astype(np.float32)
    other = rng.uniform(0, 1, (800, 1, 10, 10)).astype(np.float32)
    patched = other.copy()
    patched[:, :, :3, :3] = 1.0
    trigger = recover(weighted_moments(patched), weighted_moments(plain))
    assert trigger.touched[:3, :3].all()
    assert trigger.touched.mean() < 0.15
    scores = match_scores(
        np.concatenate([patched, plain]), weighted_moments(patched), weighted_moments(plain)
    )
    assert scores[:800].min() > scores[800:].max()
    pattern = rng.uniform(0, 1, (1, 10, 10)).astype(np.float32)
    blend = recover(weighted_moments(0.7 * other + 0.3 * pattern), weighted_moments(plain))
    stamped = blend.apply(plain[:50])
    assert np.abs(stamped - (0.7 * plain[:50] + 0.3 * pattern)).mean() < 0.05


def test_equal_groups_share_no_trigger() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0, 1, (400, 1, 10, 10)).astype(np.float32) for _ in range(2))
    trigger = recover(weighted_moments(a), weighted_moments(b))
    assert trigger.touched.mean() < 0.02


def test_the_trigger_search_needs_a_model_and_candidates() -> None:
    with pytest.raises(NotApplicable, match="candidate"):
        TriggerSearch().run(clean(100))
    mute = clean(100)
    mute.shares["judged"] = [object()]
    mute.predict = None
    with pytest.raises(NotApplicable, match="no longer"):
        TriggerSearch().run(mute)


def test_superimposing_takes_the_entropy_of_each_prediction() -> None:
    bad_set, bad = poisoned()
    index = np.flatnonzero(bad)
    from auditor.poison.interface import Confirmed

    bad_set.confirmed[2] = Confirmed(2, index, "test")
    corner_kept = Superimposing().run(bad_set)
    assert np.isfinite(corner_kept.score).all()
    assert not corner_kept.flagged.any()
    logits = model(bad_set.suspects.floats(index[:5]))[1]
    np.testing.assert_allclose(as_chances(logits).sum(axis=1), 1)
    same = np.array([[0.25, 0.75]], np.float32)
    np.testing.assert_allclose(as_chances(same), same)


def test_copies_are_counted_and_contradictions_flagged() -> None:
    images, labels = shapes(200)
    images[150:160] = images[0]
    labels[150:160] = labels[0]
    images[170] = images[1]
    labels[170] = (labels[1] + 1) % CLASSES
    images[171] = images[1]
    labels[171] = labels[1]
    result = Duplicates().run(study(images, labels))
    assert np.flatnonzero(result.flagged).tolist() == [170]
    assert result.suggested is not None
    assert result.suggested[170] == labels[1]
    assert result.metrics["duplicates.exact"] == 12
    assert "exact copies" in result.notices[0]


def test_near_copies_are_found_and_different_pictures_are_not() -> None:
    images, labels = shapes(300)
    near = images[5].astype(np.int64) + np.random.default_rng(0).integers(-2, 3, images[5].shape)
    images[200] = np.clip(near, 0, 255)
    labels[200] = (labels[5] + 1) % CLASSES
    result = Duplicates().run(study(images, labels))
    assert set(np.flatnonzero(result.flagged).tolist()) == {5, 200}
    assert not Duplicates().run(clean(300)).flagged.any()


def test_noise_pictures_are_foreign_and_the_sets_own_are_not() -> None:
    images, labels = shapes(600)
    images[:6] = np.random.default_rng(0).integers(0, 256, images[:6].shape)
    flagged = Outliers().run(study(images, labels)).flagged
    assert flagged[:6].all()
    assert flagged[6:].mean() < 0.01


def test_nothing_has_one_entry_a_sample() -> None:
    score, flagged = nothing(clean(50))
    assert score.shape == flagged.shape == (50,)
