"""Preprocessing: what it does to an image, and whether inference finds the right one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from auditor.errors import UsageError
from auditor.samples import inference
from auditor.samples.candidates import COMMON_VALUES, geometries, with_values
from auditor.samples.interface import Images
from auditor.samples.preprocessing import Overrides, Preprocessing, from_json
from auditor.samples.readers import read_samples

NONE = Overrides()


@pytest.fixture(scope="module")
def digits() -> Images:
    return read_samples("digits", limit=200)


@pytest.fixture(scope="module")
def linear() -> LogisticRegression:
    """A tiny trained classifier of 0..1 digits."""
    train = read_samples("digits", split="train")
    flat = train.pixels.reshape(len(train), -1)
    return LogisticRegression(C=30.0, max_iter=300).fit(flat, train.labels)


def make_predict(linear: LogisticRegression, wanted: Preprocessing):  # type: ignore[no-untyped-def]
    """A model that undoes exactly `wanted` and refuses inputs of another shape."""
    size = wanted.apply(torch.zeros(1, 1, 8, 8)).shape[1:]

    def predict(p: Preprocessing, pixels: np.ndarray) -> np.ndarray:
        x = p.apply(torch.from_numpy(pixels)).numpy()
        if x.shape[1:] != size:
            raise RuntimeError(f"expected {size}, got {x.shape[1:]}")
        undone = (x.reshape(len(x), -1) * wanted.std[0] + wanted.mean[0]) / wanted.scale
        return linear.decision_function(undone).astype(np.float32)

    return predict


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NHW", "flat", "flat-1"])
@pytest.mark.parametrize("label", ["0..1", "-1..1", "0..255", "1-x (inverted)"])
def test_inference_finds_layout_and_scale(
    digits: Images, linear: LogisticRegression, layout: str, label: str
) -> None:
    values = next(v for v in COMMON_VALUES if v.label == label)
    wanted = Preprocessing(layout, (8, 8), "grey", values.scale, values.mean, values.std)
    shape = (None, *wanted.apply(torch.zeros(1, 1, 8, 8)).shape[1:])
    found = inference.infer(shape, digits, make_predict(linear, wanted), NONE)
    assert found.best.preprocessing.label == label
    assert found.best.preprocessing.layout == layout
    assert found.best.accuracy > 0.8
    assert not found.near_chance
    assert found.runner_up is not None


def test_unknown_shape_is_found_by_running(digits: Images, linear: LogisticRegression) -> None:
    wanted = Preprocessing("flat", (8, 8), "grey")
    found = inference.infer(None, digits, make_predict(linear, wanted), NONE)
    assert found.best.preprocessing.layout == "flat"


def test_labels_in_another_order_are_matched(digits: Images, linear: LogisticRegression) -> None:
    order = np.random.default_rng(3).permutation(10)
    shuffled = inference.relabel(digits, tuple(int(i) for i in np.argsort(order)))
    predict = make_predict(linear, Preprocessing("NCHW", (8, 8), "grey"))
    found = inference.infer((None, 1, 8, 8), shuffled, predict, NONE)
    assert found.permutation == tuple(int(i) for i in order)
    assert found.best.accuracy > 0.8


def test_a_model_that_ignores_its_input_is_near_chance(digits: Images) -> None:
    def predict(p: Preprocessing, pixels: np.ndarray) -> np.ndarray:
        return np.tile(np.arange(10.0, dtype=np.float32), (len(pixels), 1))

    found = inference.infer((None, 1, 8, 8), digits, predict, NONE)
    assert found.near_chance
    assert found.permutation is None


def test_a_model_that_refuses_everything_says_why(digits: Images) -> None:
    def predict(p: Preprocessing, pixels: np.ndarray) -> np.ndarray:
        raise ValueError("the door is closed")

    with pytest.raises(inference.NoInputFits, match="the door is closed"):
        inference.infer((None, 1, 8, 8), digits, predict, NONE)


def test_overrides_leave_only_what_was_stated(digits: Images) -> None:
    stated = Overrides(layout="NHWC", mean=(0.3,), std=(0.2,))
    shapes = list(geometries((None, None, None, None), (1, 8, 8), stated))
    assert {g.layout for g in shapes} == {"NHWC"}
    (only,) = with_values(shapes[0], stated, None)
    assert (only.scale, only.mean, only.std) == (1.0, (0.3,), (0.2,))


@pytest.mark.parametrize("bad", [{"layout": "CHWN"}, {"std": (0.0,)}])
def test_impossible_overrides_are_usage_errors(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Overrides(**bad)  # type: ignore[arg-type]


def test_apply_is_differentiable_and_json_round_trips() -> None:
    p = Preprocessing("flat-HWC", (4, 4), "bgr", 255.0, (1.0, 2.0, 3.0), (1.0, 1.0, 2.0))
    x = torch.rand(2, 3, 8, 8, requires_grad=True)
    p.apply(x).sum().backward()
    assert x.grad is not None
    assert bool((x.grad != 0).any())
    assert from_json(p.to_json()) == p


def test_bgr_and_mean_follow_the_channels() -> None:
    x = torch.zeros(1, 3, 1, 1)
    x[0, 0] = 1.0  # red
    p = Preprocessing("NCHW", (1, 1), "bgr", 255.0, (10.0, 20.0, 30.0), (1.0, 1.0, 1.0))
    assert p.apply(x).flatten().tolist() == [-10.0, -20.0, 225.0]


def test_small_images_may_be_padded_instead_of_resized() -> None:
    options = list(geometries((None, 1, 32, 32), (1, 28, 28), NONE))
    assert {g.pad for g in options} == {False, True}
    padded = next(g for g in options if g.pad)
    assert padded.apply(torch.ones(1, 1, 28, 28)).sum() == 28 * 28


def test_stored_range_restores_the_stored_values() -> None:
    pixels = torch.tensor([0.0, 0.5, 1.0, 0.25]).view(1, 1, 2, 2)
    geometry = Preprocessing("NCHW", (2, 2), "grey")
    first = next(iter(with_values(geometry, NONE, (-2.0, 2.0))))
    assert first.apply(pixels).flatten().tolist() == [-2.0, 0.0, 2.0, -1.0]
