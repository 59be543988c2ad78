"""Every trigger family: range, shape, JSON round trip, and what it does to pixels."""

import json

import numpy as np
import pytest

from auditor import plugins
from auditor.triggers import registry
from auditor.triggers.blends import AdditiveNoise, AdditivePattern, BlendedNoise, Sinusoid
from auditor.triggers.library import probe_library, square_sizes
from auditor.triggers.patches import (
    Checkerboard,
    FourCorners,
    PixelPatch,
    RandomPatch,
    SparsePixels,
    Square,
)
from auditor.triggers.record import BadTrigger
from auditor.triggers.registry import BUILT_IN, trigger_from_json
from auditor.triggers.transforms import Blur, ColourFilter, Warp

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 40), (3, 5, 7)]


def one_of_each(shape):
    rng = np.random.default_rng(3)
    mask = (rng.random((1, *shape[1:])) < 0.3).astype(np.float32)
    pattern = rng.random(shape, np.float32)
    return [
        Square(size=2),
        Checkerboard(size=3),
        PixelPatch(mask=mask, pattern=pattern),
        RandomPatch(size=3, seed=4),
        FourCorners(),
        SparsePixels(count=3),
        BlendedNoise(alpha=0.3),
        AdditiveNoise(amplitude=0.05),
        Sinusoid(),
        AdditivePattern(pattern=(pattern - 0.5) / 4),
        Blur(sigma=1.0),
        Warp(strength=2.0),
        ColourFilter(contrast=0.4, tint=(1.2, 1.0, 0.8)),
    ]


def images(shape, n=3, seed=0):
    return np.random.default_rng(seed).random((n, *shape), np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_family_keeps_shape_type_range_and_input(shape):
    families = set()
    for trigger in one_of_each(shape):
        x = images(shape)
        before = x.copy()
        out = trigger.apply(x)
        families.add(trigger.family)
        assert out.shape == x.shape and out.dtype == np.float32, trigger.name
        assert out.min() >= 0 and out.max() <= 1, trigger.name
        assert np.array_equal(x, before), f"{trigger.name} changed its input"
        assert not np.allclose(out, x), f"{trigger.name} does nothing"
        assert np.array_equal(out, trigger.apply(x)), f"{trigger.name} is not repeatable"
        # One image at a time gives the same as the batch.
        assert np.allclose(out[1:2], trigger.apply(x[1:2]), atol=1e-6), trigger.name
    assert families == {kind.family for kind in BUILT_IN}


@pytest.mark.parametrize("shape", SHAPES)
def test_json_round_trip_gives_an_equal_trigger(shape):
    for trigger in one_of_each(shape):
        again = trigger_from_json(json.loads(json.dumps(trigger.to_json())))
        assert again == trigger and again.name == trigger.name
        assert np.array_equal(again.apply(images(shape)), trigger.apply(images(shape)))


def test_nested_lists_are_accepted_for_arrays():
    record = {"family": "pixel-patch", "mask": [[[0, 1]]], "pattern": [[[0.5, 1]]]}
    assert trigger_from_json(record).apply(np.zeros((1, 1, 1, 2), np.float32)).tolist() == [
        [[[0, 1]]]
    ]


@pytest.mark.parametrize(
    "record",
    [
        {"family": "nonsense"},
        {},
        [],
        {"family": "square", "size": 0},
        {"family": "square", "size": 2.5},
        {"family": "square", "size": "large"},
        {"family": "square", "position": "middle"},
        {"family": "square", "position": 3},
        {"family": "square", "colour_of_sky": 1},
        {"family": "blended-noise", "alpha": float("nan")},
        {"family": "blended-noise", "alpha": 2},
        {"family": "pixel-patch"},
        {"family": "pixel-patch", "mask": {"shape": [10**6, 10**6], "base64": ""}, "pattern": []},
        {"family": "pixel-patch", "mask": {"shape": [1, 1, 2], "base64": "AAAA"}, "pattern": []},
        {"family": "pixel-patch", "mask": {"shape": [1], "base64": "?"}, "pattern": []},
        {"family": "additive-pattern", "pattern": [[["x"]]]},
        {"family": "additive-pattern", "pattern": [[[5.0]]]},
    ],
)
def test_bad_records_are_refused_with_a_sentence(record):
    with pytest.raises(BadTrigger):
        trigger_from_json(record)


def test_square_paints_exactly_its_pixels():
    out = Square(size=2, position="bottom-right").apply(np.zeros((1, 1, 6, 8), np.float32))
    assert out.sum() == 4 and out[0, 0, 4:, 6:].sum() == 4
    out = Square(size=2, position="top-left", margin=1).apply(np.zeros((1, 1, 6, 8), np.float32))
    assert out[0, 0, 1:3, 1:3].sum() == 4 and out.sum() == 4
    out = Square(size=1, at=(3, 5), value=0.5).apply(np.zeros((1, 1, 6, 8), np.float32))
    assert out[0, 0, 3, 5] == 0.5 and out.sum() == 0.5
    red = Square(size=1, colour=(1.0, 0.0, 0.0)).apply(np.full((1, 3, 4, 4), 0.5, np.float32))
    assert red[0, :, 3, 3].tolist() == [1, 0, 0]


def test_additive_noise_stays_within_its_amplitude():
    x = images((3, 9, 9))
    for kind in ("uniform", "sign"):
        change = np.abs(AdditiveNoise(amplitude=0.07, kind=kind).apply(x) - x)
        assert 0.01 < change.max() <= 0.07 + 1e-6


def test_sinusoid_is_the_published_wave():
    x = np.full((1, 1, 4, 12), 0.5, np.float32)
    out = Sinusoid(amplitude=0.2, frequency=3).apply(x)
    expected = 0.5 + 0.2 * np.sin(2 * np.pi * np.arange(12) * 3 / 12)
    assert np.allclose(out[0, 0], expected, atol=1e-6)


def test_checkerboard_alternates():
    out = Checkerboard(size=3, position="top-left").apply(np.full((1, 1, 4, 4), 0.5, np.float32))
    assert out[0, 0, :3, :3].tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_warp_moves_by_half_its_strength_on_average_and_keeps_flat_images():
    field = Warp(k=4, strength=1.0).field(32, 32)
    assert 0.2 < np.abs(field).mean() < 0.8
    flat = np.full((1, 1, 16, 16), 0.3, np.float32)
    assert np.allclose(Warp(strength=2.0).apply(flat), flat, atol=1e-6)


def test_warp_agrees_with_torch_grid_sample():
    torch = pytest.importorskip("torch")
    warp, x = Warp(k=4, strength=3.0), images((1, 12, 12))
    row, column = warp.field(12, 12)
    i, j = np.indices((12, 12))
    grid = np.stack([(j + column) / 11 * 2 - 1, (i + row) / 11 * 2 - 1], -1).clip(-1, 1)
    grid = torch.from_numpy(grid[None].astype(np.float32)).expand(3, -1, -1, -1)
    expected = torch.nn.functional.grid_sample(torch.from_numpy(x), grid, align_corners=True)
    assert np.allclose(warp.apply(x), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("shape", [*SHAPES[:3], (3, 224, 224)])
def test_library_is_varied_unique_and_works(shape):
    library = probe_library(*shape)
    assert len(library) >= 40
    assert len({t.name for t in library}) == len(library)
    assert {t.family for t in library} >= {
        "square",
        "checkerboard",
        "random-patch",
        "blended-noise",
        "sinusoid",
        "blur",
        "warp",
    }
    x = images(shape, n=1)
    for trigger in library:
        out = trigger.apply(x)
        assert not np.array_equal(out, x), f"{trigger.name} does nothing"
        assert trigger_from_json(trigger.to_json()) == trigger


def test_library_holds_the_small_squares_in_every_corner():
    names = {t.name for t in probe_library(1, 28, 28)}
    for size in (1, 2, 3, 4, 5, 7):
        for position in ("top-left", "top-right", "bottom-left", "bottom-right", "centre"):
            assert f"square-{size}x{size}-{position}-white" in names
    assert square_sizes(8) == [1, 2, 3]
    assert max(square_sizes(224)) == 56


class _Point:
    dist = None

    def __init__(self, name, value):
        self.name, self.value = name, value

    def load(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def test_a_broken_plugin_is_a_sentence_and_a_good_one_is_used(monkeypatch):
    class Mine(Square):
        family = "mine"

    class Copy(Square):
        pass

    points = [
        _Point("mine", Mine),
        _Point("broken", ImportError("no module")),
        _Point("number", 3),
        _Point("copy", Copy),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    registry.load_families.cache_clear()
    try:
        families, problems = registry.load_families()
        assert families["mine"] is Mine and families["square"] is Square
        assert len(problems) == 3 and "no module" in problems[0]
        assert isinstance(trigger_from_json({"family": "mine"}), Mine)
    finally:
        registry.load_families.cache_clear()
