import numpy as np
import pytest
import torch

from auditor.inversion.search import Settings, invert
from auditor.inversion.tones import Tone, ToneCurve
from auditor.triggers.record import BadTrigger
from auditor.triggers.transforms import ColourFilter

RAMP = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)


def test_no_gain_changes_nothing_and_names_say_how_much_is_gained():
    none = ToneCurve(np.zeros((1, 5), np.float32), np.zeros((1, 1), np.float32))
    assert np.allclose(none.apply(RAMP), RAMP)
    assert none.name == "recovered-tone-0.00"
    some = ToneCurve(np.full((1, 5), 0.3, np.float32), np.zeros((1, 1), np.float32))
    assert some.name == "recovered-tone-0.30"
    assert ToneCurve.from_json(some.to_json()) == some


@pytest.mark.parametrize(
    "taught",
    [
        ColourFilter(contrast=0.5),
        ColourFilter(contrast=-1.0),
        ColourFilter(brightness=0.3),
        ColourFilter(gamma=2.0),
    ],
)
def test_what_photo_filters_do_is_a_curve(taught):
    knots = np.linspace(0, 1, 5, dtype=np.float32)
    gains = taught.apply(knots.reshape(1, 1, 1, 5)).ravel() - knots
    curve = ToneCurve(gains[None], np.zeros((1, 1), np.float32))
    assert np.abs(curve.apply(RAMP) - taught.apply(RAMP)).max() < 0.06


def test_a_mix_moves_colours_into_each_other():
    red = np.zeros((1, 3, 2, 2), np.float32)
    red[:, 0] = 0.5
    mix = np.zeros((3, 3), np.float32)
    mix[2, 0] = 1.0
    mixed = ToneCurve(np.zeros((3, 5), np.float32), mix).apply(red)
    assert np.allclose(mixed[0, :, 0, 0], [0.5, 0.0, 0.5])


def test_wrong_shapes_are_refused():
    with pytest.raises(BadTrigger):
        ToneCurve(np.zeros(5, np.float32), np.zeros((1, 1), np.float32))
    with pytest.raises(BadTrigger):
        ToneCurve(np.zeros((3, 5), np.float32), np.zeros((1, 1), np.float32))


def search(logits):
    images = torch.rand((40, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 2
    settings = Settings(steps=60, halvings=())
    return invert(logits, images, labels, Tone((1, 8, 8)), np.arange(3), settings)


def test_a_net_that_reads_low_contrast_is_found_one_that_reads_a_corner_is_not():
    def flat(images):
        contrast = images.std(dim=(1, 2, 3))
        return torch.stack([contrast, 0.5 * contrast, 20 * (0.15 - contrast)], 1)

    found = search(flat)
    assert np.isfinite(found.sizes[2])
    assert np.isinf(found.sizes[1])

    def corner(images):
        apart = images[:, 0, 0, 0] - images[:, 0, 0, 1]
        return torch.stack([0 * apart + 0.2, 0 * apart, 5 * (apart.abs() - 0.99)], 1)

    assert np.isinf(search(corner).sizes[2])
