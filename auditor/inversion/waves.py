"""Which class faint waves laid over the image lead to: a search without gradients.

Sine waves of all low frequencies and directions form a basis of smooth changes (Yin et al., 2019,
map a network's errors over it). A network that was taught to answer a faint pattern over the whole
image answers some wave that resembles it, far below the strength at which other classes give way.
That holds for brittle networks too, whose smallest perturbations are rough and hide the pattern
from a search by size. Needs forward passes only, the same for any number of classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.inversion.search import CHUNK_VALUES, Logits

AMPLITUDES = (0.04, 0.08, 0.15)
"""Of the whole range of values: from below what is seen to clearly visible."""

HIGHEST = 8
"""Cycles over the image; at most half of its pixels."""

IMAGES = 24
_USUAL = 2.0
_THIN = (1, 2, 4, 8)
THINNEST = _THIN[-1]
_LEAST = 8


@dataclass(frozen=True, slots=True)
class Waves:
    """`excess` (K,): how many more images the best wave moves to a class than waves usually do.

    The share of images (0..1) that the best wave moves, less twice what all waves move on average:
    classes that any texture leads to (a frog in CIFAR-10) are no sign of anything. Averaged over
    the amplitudes, each with its own best wave; of images the network gives another class, NaN
    where there is none or the budget ended first. `passes` counts images passed forwards.
    """

    excess: NDArray[np.float64]
    passes: int
    complete: bool


def waves(
    logits: Logits,
    images: Tensor,
    classes: int,
    *,
    thin: int = 1,
    spent: Callable[[], bool] = lambda: False,
) -> Waves:
    """Lay every wave, grey, over the first 24 of float32 `images` (N, C, H, W) in 0..1.

    With `thin` n only every n-th frequency is tried.
    """
    few = images[:IMAGES]
    height, width = few.shape[2:]
    patterns = torch.from_numpy(_patterns(height, width, thin)).to(few)
    piece = max(1, max(_LEAST, CHUNK_VALUES // (16 * int(np.prod(few.shape[1:])))) // len(few))
    best = torch.zeros((len(AMPLITUDES), classes), dtype=torch.float64)
    total = torch.zeros_like(best)
    with torch.no_grad():
        labels = logits(few).argmax(1)
        elsewhere = labels[:, None] != torch.arange(classes, device=few.device)
        known = elsewhere.sum(0)
        passes = len(few)
        for group in torch.split(patterns, piece):
            if spent():
                return Waves(np.full(classes, np.nan), passes, complete=False)
            for row, amplitude in enumerate(AMPLITUDES):
                laid = (few[None] + amplitude * group[:, None]).clamp(0.0, 1.0)
                answers = logits(laid.flatten(0, 1)).argmax(1).reshape(len(group), len(few))
                hits = answers[..., None] == torch.arange(classes, device=few.device)
                shares = ((hits & elsewhere).sum(1).double() / known.clamp_min(1)).cpu()
                best[row] = torch.maximum(best[row], shares.max(0).values)
                total[row] += shares.sum(0)
                passes += len(few) * len(group)
    excess = (best - _USUAL * total / len(patterns)).mean(0).numpy()
    return Waves(np.where(known.cpu().numpy() > 0, excess, np.nan), passes, complete=True)


def affordable(height: int, width: int, step_seconds: float, seconds: float) -> int:
    """The least `thin` that fits into `seconds` when 24 images take `step_seconds` to pass."""
    whole = whole_seconds(height, width, step_seconds)
    return next((thin for thin in _THIN if whole / thin <= seconds), THINNEST)


def whole_seconds(height: int, width: int, step_seconds: float) -> float:
    """What all waves take when 24 images take `step_seconds` to pass."""
    return step_seconds * len(AMPLITUDES) * 2 * len(_frequencies(height, width))


def _frequencies(height: int, width: int) -> list[tuple[int, int]]:
    """Cycles down and across, each direction once."""
    tall, wide = min(HIGHEST, height // 2), min(HIGHEST, width // 2)
    return [
        (down, across)
        for down in range(tall + 1)
        for across in range(-wide, wide + 1)
        if down > 0 or across > 0
    ]


def _patterns(height: int, width: int, thin: int) -> NDArray[np.float32]:
    """(W, 1, H, W) in -1..1: sine and cosine of every `thin`-th frequency."""
    row, column = np.meshgrid(np.arange(height) / height, np.arange(width) / width, indexing="ij")
    pairs = _frequencies(height, width)[::thin]
    angles = [2 * np.pi * (down * row + across * column) for down, across in pairs]
    both = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.stack(both)[:, None].astype(np.float32)
