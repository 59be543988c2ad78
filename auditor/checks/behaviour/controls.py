"""Is a trigger's success special to it? Control perturbations and a reference model.

A clean network can be fragile: any white patch may send every image to one class. What marks a
backdoor is that *this* pattern does it while perturbations of equal strength do not, and that an
independent model of the same data does not follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from auditor.samples.interface import Images

Pixels = NDArray[np.float32]
CONTROLS = 8


def control_images(
    clean: Pixels, stamped: Pixels, seed: int, count: int = CONTROLS
) -> list[Pixels]:
    """Perturbations of the same size as ``stamped - clean`` but elsewhere or rearranged.

    Alternately: the change rolled to another place, its pixels scattered at random, and its sign
    flipped. Each is (N, C, H, W) in 0..1.
    """
    rng = np.random.default_rng(seed)
    change = stamped - clean
    height, width = change.shape[2:]
    controls = []
    for index in range(count):
        if index % 4 == 3:
            moved = -change
        elif index % 2 == 0:
            shift = (_far(rng, height), _far(rng, width))
            moved = np.roll(_values_as_stamped(stamped, change), shift, axis=(2, 3))
            controls.append(_put(clean, moved))
            continue
        else:
            order = rng.permutation(height * width)
            values = _values_as_stamped(stamped, change)
            flat = values.reshape(*change.shape[:2], -1)[:, :, order]
            controls.append(_put(clean, flat.reshape(change.shape)))
            continue
        controls.append(np.clip(clean + moved, 0, 1).astype(np.float32))
    return controls


def _far(rng: np.random.Generator, side: int) -> int:
    return int(rng.integers(side // 4, max(side // 4 + 1, 3 * side // 4 + 1)))


def _values_as_stamped(stamped: Pixels, change: Pixels) -> Pixels:
    """Per pixel: the value stamped where the trigger writes a fixed value, else NaN-marked change.

    A patch (few pixels touched) is moved with its values; anything spread out with its change.
    """
    touched = (np.abs(change) > 1e-6).any(axis=(0, 1))
    if touched.mean() > 0.5:
        return change
    return np.where(touched, stamped, np.nan).astype(np.float32)


def _put(clean: Pixels, moved: Pixels) -> Pixels:
    if np.isnan(moved).any():
        moved = np.where(np.isnan(moved), clean, moved)
    else:
        moved = np.clip(clean + moved, 0, 1)
    placed: Pixels = moved.astype(np.float32)
    return placed


class Reference:
    """An independent model of the same data: multinomial logistic regression on pixels.

    Small on purpose: it learns what the images look like and cannot know the suspect model's
    trigger. A change it follows too is a property of the images, not a backdoor.
    """

    def __init__(self, samples: Images, seed: int) -> None:
        from sklearn.linear_model import LogisticRegression

        self._side = self._reduce(samples.pixels)
        self._model: Any = LogisticRegression(C=1.0, max_iter=200, random_state=seed)
        self._model.fit(self._side, samples.labels)
        del self._side

    def asr(self, clean: Pixels, stamped: Pixels, target: int) -> float:
        """Share of images sent to `target` by the stamp that were not there before."""
        before = self._model.predict(self._reduce(clean)) == target
        after = self._model.predict(self._reduce(stamped)) == target
        eligible = ~before
        return float(after[eligible].mean()) if eligible.any() else 1.0

    @staticmethod
    def _reduce(pixels: Pixels) -> Pixels:
        """At most 16 x 16 by averaging: quick, and no finer than a few hundred samples teach."""
        step = max(1, min(pixels.shape[2:]) // 16)
        if step == 1:
            return pixels.reshape(len(pixels), -1)
        height, width = (s - s % step for s in pixels.shape[2:])
        cut = pixels[:, :, :height, :width]
        blocks = cut.reshape(*cut.shape[:2], height // step, step, width // step, step)
        small: Pixels = blocks.mean(axis=(3, 5)).reshape(len(pixels), -1)
        return small
