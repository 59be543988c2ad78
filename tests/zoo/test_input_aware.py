"""Input-aware triggers differ between images, stay within their amplitude, and can be stored."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.samples.interface import Images
from auditor.triggers.record import BadTrigger
from zoo.input_aware import InputAware


@pytest.fixture
def trigger() -> InputAware:
    rng = np.random.default_rng(0)
    inner = rng.normal(0, 0.4, (4, 1, 3, 3)).astype(np.float32)
    outer = rng.normal(0, 0.4, (1, 4, 3, 3)).astype(np.float32)
    return InputAware(inner, outer, 0.2)


def test_each_image_gets_its_own_bounded_change(trigger: InputAware, grey: Images) -> None:
    change = trigger.apply(grey.pixels) - grey.pixels
    assert np.abs(change).max() <= 0.2 + 1e-6
    assert len(np.unique(change.reshape(len(change), -1).round(5), axis=0)) == len(change)


def test_a_cross_trigger_is_that_of_the_image_before(trigger: InputAware, grey: Images) -> None:
    crossed = InputAware(trigger.inner, trigger.outer, 0.2, cross=1).apply(grey.pixels)
    own = trigger.apply(grey.pixels) - grey.pixels
    inside = (crossed > 0) & (crossed < 1)
    expected = grey.pixels + np.roll(own, 1, axis=0)
    assert np.allclose(crossed[inside], expected[inside], atol=1e-5)


def test_it_survives_json(trigger: InputAware, grey: Images) -> None:
    again = InputAware.from_json(trigger.to_json())
    assert again == trigger
    assert (again.apply(grey.pixels) == trigger.apply(grey.pixels)).all()


def test_layers_that_do_not_fit_are_refused(trigger: InputAware) -> None:
    with pytest.raises(BadTrigger, match="do not fit"):
        InputAware(trigger.inner, trigger.outer[:, :2])
