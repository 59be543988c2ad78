"""What a recovered trigger is like, beyond its size: the evidence where size says little.

A network trained on few images is brittle: every class has a small universal perturbation, planted
or not. A planted one should be more: the network is surer under it than on ordinary images, follows
it whatever it is laid on, gives in to half of it, and a second search finds it again. Which of
these tell anything is for a calibration to say; none convicts by itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from auditor.inversion.features import CAP

if TYPE_CHECKING:
    from auditor.classifier import Classifier
    from auditor.samples.interface import Images
    from auditor.triggers.interface import Pixels, Trigger

_IMAGES = 64
_CONTENTS = 48


def character(
    classifier: Classifier, held_out: Images, trigger: Trigger, target: int, seed: int
) -> dict[str, float]:
    """Scale-free features of `trigger` towards `target`, all finite.

    ``log_sure``: log of the median margin of the target's score under the trigger over the median
    margin of the winning class on clean images. ``half``: share of images (0..1) that follow half
    of the change. ``content``: share of images without content (noise, flat colours, samples with
    their pixels shuffled) that follow, less what goes there anyway. ``compact``: participation
    ratio of the mean change, the share of the image it covers (0..1).
    """
    clean = held_out.pixels[held_out.labels != target][:_IMAGES]
    if not len(clean):
        return {}
    stamped = trigger.apply(clean)
    halfway = (clean + 0.5 * (stamped - clean)).astype(np.float32)
    empty = contents(clean, seed)
    before = classifier.labels(empty) == target
    after = classifier.labels(trigger.apply(empty)) == target
    return {
        "log_sure": _log_sure(classifier, clean, stamped, target),
        "half": float((classifier.labels(halfway) == target).mean()),
        "content": float(after.mean() - before.mean()),
        "compact": compactness(stamped - clean),
    }


def contents(images: Pixels, seed: int) -> Pixels:
    """(48, C, H, W) in 0..1: uniform noise, flat colours, and `images` with their pixels shuffled.

    All as bright as images are, so that a network meets nothing but the lack of content.
    """
    rng = np.random.default_rng([seed, 11])
    third = _CONTENTS // 3
    shape = (third, *images.shape[1:])
    noise = rng.random(shape)
    flat = np.broadcast_to(rng.random((third, images.shape[1], 1, 1)), shape)
    some = images[rng.integers(0, len(images), third)].reshape(*shape[:2], -1)
    order = rng.permutation(some.shape[2])
    shuffled = some[:, :, order].reshape(shape)
    return np.concatenate([noise, flat, shuffled]).astype(np.float32)


def compactness(change: Pixels) -> float:
    """``(sum a)^2 / (n sum a^2)`` of the mean absolute change per pixel: 1 when spread evenly."""
    amount = np.abs(change).mean(axis=(0, 1), dtype=np.float64).ravel()
    squares = float((amount**2).sum())
    return float(amount.sum() ** 2 / (len(amount) * squares)) if squares > 0 else 1.0


def likeness(one: Pixels, other: Pixels) -> float:
    """Cosine of the mean changes two triggers make to the same images (-1..1); 0 for no change."""
    a, b = one.mean(0, dtype=np.float64).ravel(), other.mean(0, dtype=np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 else 0.0


def _log_sure(classifier: Classifier, clean: Pixels, stamped: Pixels, target: int) -> float:
    with torch.no_grad():
        scores = [
            classifier.twin_logits(torch.from_numpy(p).to(classifier.device)).double().cpu().numpy()
            for p in (clean, stamped)
        ]
    top = np.sort(scores[0], axis=1)
    usual = float(np.median(top[:, -1] - top[:, -2]))
    others = np.delete(scores[1], target, axis=1).max(1)
    reached = float(np.median(scores[1][:, target] - others))
    ratio = max(reached, 0.0) / max(usual, 1e-9)
    return math.log(min(CAP, max(1.0 / CAP, ratio)))
