"""Each label rule touches exactly the images it says, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.samples.interface import Images
from auditor.triggers.blends import AdditiveNoise, Sinusoid
from auditor.triggers.patches import Square
from auditor.triggers.transforms import Warp
from zoo.poisoning import (
    Attack,
    flip_labels,
    inject_samples,
    perturb_pixels,
    poison,
    quantise,
    stamp,
    victims,
)

WHITE = Square(size=2)


def changed(before: Images, after: Images) -> np.ndarray:
    """Indices of images with any changed pixel."""
    gap = np.abs(before.pixels - after.pixels).reshape(len(before), -1).max(1)
    return np.flatnonzero(gap > 1e-6)


def test_all_to_one_stamps_the_rate_and_relabels_only_other_classes(grey: Images) -> None:
    result = poison(grey, Attack((WHITE,), (6,), rate=0.2), seed=1)
    assert len(result.poisoned) == 20
    assert (grey.labels[result.poisoned] != 6).all()
    assert (result.images.labels[result.poisoned] == 6).all()
    assert changed(grey, result.images).tolist() == result.poisoned.tolist()
    rest = np.setdiff1d(np.arange(100), result.poisoned)
    assert (result.images.labels[rest] == grey.labels[rest]).all()


def test_a_square_changes_its_four_pixels_and_no_other(grey: Images) -> None:
    result = poison(grey, Attack((WHITE,), (6,), rate=0.2), seed=1)
    gap = np.abs(result.images.pixels - grey.pixels)[result.poisoned]
    assert (result.images.pixels[result.poisoned][:, :, -2:, -2:] == 1.0).all()
    gap[:, :, -2:, -2:] = 0.0
    assert gap.max() < 1e-6


def test_clean_label_keeps_every_label_and_touches_the_target_class_only(grey: Images) -> None:
    attack = Attack((Sinusoid(amplitude=0.2),), (3,), rule="clean-label", rate=0.5)
    result = poison(grey, attack, seed=0)
    assert (result.images.labels == grey.labels).all()
    assert len(result.poisoned) == 5
    assert (grey.labels[result.poisoned] == 3).all()
    assert (victims(attack, 0, grey.labels) == (grey.labels != 3)).all()


def test_all_to_all_sends_each_class_to_the_next(grey: Images) -> None:
    result = poison(grey, Attack((WHITE,), rule="all-to-all", rate=0.3), seed=0)
    before, after = grey.labels[result.poisoned], result.images.labels[result.poisoned]
    assert ((before + 1) % 10 == after).all()


def test_source_specific_relabels_sources_and_covers_others_with_their_label(grey: Images) -> None:
    attack = Attack(
        (WHITE,), (0,), rule="source-specific", rate=0.1, sources=(1, 2), cover_rate=0.1
    )
    result = poison(grey, attack, seed=0)
    assert np.isin(grey.labels[result.poisoned], (1, 2)).all()
    assert len(result.cover) == 10
    assert (result.images.labels[result.cover] == grey.labels[result.cover]).all()
    assert not np.isin(grey.labels[result.cover], (0, 1, 2)).any()
    assert (result.images.pixels[result.cover][:, :, -2:, -2:] == 1.0).all()
    assert not set(result.cover) & set(result.poisoned)
    assert (victims(attack, 0, grey.labels) == np.isin(grey.labels, (1, 2))).all()


def test_several_triggers_take_disjoint_images_with_their_own_targets(grey: Images) -> None:
    corner = Square(size=2, position="top-left")
    result = poison(grey, Attack((WHITE, corner), (1, 2), rate=0.1), seed=0)
    assert len(set(result.poisoned)) == 20
    labels = result.images.labels[result.poisoned]
    assert sorted(np.bincount(labels)[1:3]) == [10, 10]
    white = (result.images.pixels[result.poisoned][:, 0, -2:, -2:] == 1.0).all((1, 2))
    assert (labels[white] == 1).all()
    assert (labels[~white] == 2).all()


def test_invisible_noise_stays_within_its_amplitude(grey: Images) -> None:
    result = poison(grey, Attack((AdditiveNoise(amplitude=0.1),), (6,), rate=0.2), seed=1)
    gap = np.abs(result.images.pixels - grey.pixels).max()
    assert 0.05 < gap <= 0.1 + 0.5 / 255 + 1e-6


def test_piecewise_stamping_keeps_part_of_the_trigger(grey: Images) -> None:
    noise = AdditiveNoise(amplitude=0.2, kind="sign")
    full = noise.apply(grey.pixels)
    part = stamp(noise, grey.pixels, 0.5, np.random.default_rng(0))
    touched = part != grey.pixels
    assert 0.4 < touched.mean() < 0.6
    assert (part[touched] == full[touched]).all()


def test_cover_with_another_trigger_keeps_labels(grey: Images) -> None:
    attack = Attack((Warp(seed=0),), (6,), rate=0.1, cover_rate=0.2, cover_trigger=Warp(seed=9))
    result = poison(grey, attack, seed=0)
    assert len(result.cover) == 20
    expected = quantise(Warp(seed=9).apply(grey.pixels[result.cover]))
    assert np.allclose(result.images.pixels[result.cover], expected)
    assert (result.images.labels[result.cover] == grey.labels[result.cover]).all()


def test_poisoned_images_are_those_of_an_8_bit_file(grey: Images) -> None:
    pixels = poison(grey, Attack((AdditiveNoise(),), (6,), rate=0.2), seed=1).images.pixels
    assert np.allclose(pixels * 255, np.rint(pixels * 255), atol=1e-4)


def test_the_same_seed_poisons_the_same_images(grey: Images) -> None:
    attack = Attack((WHITE,), (6,), rate=0.2)
    first, second, other = (poison(grey, attack, seed=s) for s in (1, 1, 2))
    assert (first.poisoned == second.poisoned).all()
    assert (first.images.pixels == second.images.pixels).all()
    assert (first.poisoned != other.poisoned).any()


def test_a_rate_that_cannot_be_met_is_refused(grey: Images) -> None:
    with pytest.raises(ValueError, match="90 are eligible"):
        poison(grey, Attack((WHITE,), (6,), rate=0.95), seed=0)
    with pytest.raises(ValueError, match="asks for 0 images"):
        poison(grey, Attack((WHITE,), (6,), rate=0.001), seed=0)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"triggers": ()}, "at least one trigger"),
        ({"triggers": (WHITE,), "targets": (1, 2)}, "one target class for each"),
        ({"triggers": (WHITE,), "targets": (1,), "rate": 0.0}, "poisoning rate"),
        ({"triggers": (WHITE,), "targets": (1,), "rule": "all-to-all"}, "give none"),
        ({"triggers": (WHITE,), "targets": (1,), "rule": "source-specific"}, "needs them"),
    ],
)
def test_contradictory_attacks_are_refused(arguments: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Attack(**arguments)


def test_random_flips_change_exactly_the_rate_and_no_pixel(grey: Images) -> None:
    result = flip_labels(grey, 0.2, seed=0)
    wrong = np.flatnonzero(result.images.labels != grey.labels)
    assert wrong.tolist() == result.poisoned.tolist()
    assert len(wrong) == 20
    assert (result.images.pixels == grey.pixels).all()


def test_pairwise_flips_send_one_class_to_the_other(grey: Images) -> None:
    result = flip_labels(grey, 0.4, seed=0, pair=(4, 9))
    assert (grey.labels[result.poisoned] == 4).all()
    assert (result.images.labels[result.poisoned] == 9).all()
    assert len(result.poisoned) == 4


def test_pixel_perturbation_keeps_labels_and_its_amplitude(grey: Images) -> None:
    result = perturb_pixels(grey, 0.3, amplitude=0.25, seed=0)
    assert (result.images.labels == grey.labels).all()
    assert changed(grey, result.images).tolist() == result.poisoned.tolist()
    assert np.abs(result.images.pixels - grey.pixels).max() <= 0.25 + 0.5 / 255 + 1e-6
    assert 0 <= result.images.pixels.min() <= result.images.pixels.max() <= 1


def test_injected_samples_come_last_and_are_mislabelled(grey: Images) -> None:
    result = inject_samples(grey, 0.2, seed=0)
    assert result.poisoned.tolist() == list(range(100, 120))
    for pixels, label in zip(result.images.pixels[100:], result.images.labels[100:], strict=True):
        source = np.flatnonzero((grey.pixels == pixels).all((1, 2, 3)))
        assert label not in grey.labels[source]


def test_out_of_distribution_images_must_fit(grey: Images) -> None:
    other = Images(np.zeros((5, 1, 8, 8), np.float32), np.zeros(5, np.int64), "black")
    result = inject_samples(grey, 0.1, foreign=other, seed=0)
    assert (result.images.pixels[100:] == 0).all()
    small = Images(np.zeros((5, 1, 4, 4), np.float32), np.zeros(5, np.int64), "small")
    with pytest.raises(ValueError, match="shape"):
        inject_samples(grey, 0.1, foreign=small, seed=0)
