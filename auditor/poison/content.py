"""A judge of what an image shows that can forget any group of samples at once.

Random convolutional features (whitened patches of the images themselves as filters: Coates & Ng,
2011), pooled over a 3x3 grid, and a ridge classifier on them. Ridge regression needs only sums
over samples, so a group is left out exactly by subtracting its sums: exclusionary reclassification
(Chen et al., 2018) without retraining, and cross-validation for the price of one fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from auditor.poison.interface import Floats, Labels, Suspects

FILTERS, SIDE, GRID = 64, 6, 3
"""Number of filters, their side in pixels, and cells a side of the pooling grid."""

FOLDS = 4
_RIDGE = 3e-3
_BATCH = 16
_CHUNK = 4_000
_PATCHES = 30_000
_LARGEST = 64
"""Images larger than this are shrunk by a whole factor first: content survives, time does not."""


@dataclass(frozen=True, slots=True)
class Extractor:
    """Pixels to features: a convolution of whitened patches, pooled, standardised as fitted."""

    kernel: Floats
    bias: Floats
    shrink: int
    mean: Floats
    scale: Floats

    def __call__(self, images: Floats) -> Floats:
        """(N, D + 1) float32 of images (N, C, H, W) in 0..1; the last column is one."""
        out = np.ones((len(images), len(self.mean) + 1), np.float32)
        self.fill(out, images)
        out[:, :-1] = (out[:, :-1] - self.mean) / self.scale
        return out

    def fill(self, out: Floats, images: Floats) -> None:
        """Raw features into ``out[:, :-1]``."""
        import torch
        from torch.nn import functional

        kernel, bias = torch.from_numpy(self.kernel), torch.from_numpy(self.bias)
        flat = torch.full((1, *kernel.shape[1:]), 1.0 / kernel[0].numel())
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                x = torch.from_numpy(np.ascontiguousarray(images[start : start + _BATCH]))
                if self.shrink > 1:
                    x = functional.avg_pool2d(x, self.shrink)
                mean = functional.conv2d(x, flat)
                spread = functional.conv2d(x * x, flat) - mean * mean
                response = functional.conv2d(x, kernel)
                response.mul_(torch.rsqrt(spread.clamp_min_(0).add_(0.01)))
                response.add_(bias).relu_()
                pooled = functional.adaptive_avg_pool2d(response, GRID)
                out[start : start + len(x), :-1] = pooled.flatten(1).numpy()


@dataclass(slots=True)
class ContentProbe:
    """`features` (N, D + 1) float32 of the set's own images; `targets` one-hot (N, K)."""

    extractor: Extractor
    features: Floats
    targets: Floats
    gram: NDArray[np.float64]
    moments: NDArray[np.float64]
    fold: NDArray[np.int64]
    held_out: Floats
    """Scores (N, K) of every sample by the fit without its fold."""

    @classmethod
    def fit(cls, suspects: Suspects, seed: int) -> ContentProbe:
        """Features of every sample, and scores by `FOLDS`-fold cross-validation."""
        extractor, features = _features(suspects, seed)
        targets = np.zeros((len(suspects), int(suspects.labels.max()) + 1), np.float32)
        targets[np.arange(len(suspects)), suspects.labels] = 1.0
        fold = np.random.default_rng([seed, 3]).integers(0, FOLDS, len(suspects))
        parts = [_sums(features[fold == f], targets[fold == f]) for f in range(FOLDS)]
        gram = np.sum([g for g, _ in parts], axis=0)
        moments = np.sum([m for _, m in parts], axis=0)
        held_out = np.zeros_like(targets)
        for f, (g, m) in enumerate(parts):
            weights = _solve(gram - g, moments - m, len(suspects))
            held_out[fold == f] = features[fold == f] @ weights
        return cls(extractor, features, targets, gram, moments, fold, held_out)

    def forgetting(self, members: NDArray[np.int64]) -> Floats:
        """Weights (D + 1, K) of a fit that never saw `members`; scores are features times these."""
        g, m = _sums(self.features[members], self.targets[members])
        return _solve(self.gram - g, self.moments - m, len(self.features) - len(members))

    def without_held_out(self, members: NDArray[np.int64]) -> Floats:
        """Scores (N, K) of all samples by fits that saw neither `members` nor the sample's fold."""
        kept = np.ones(len(self.features), bool)
        kept[members] = False
        g, m = _sums(self.features[members], self.targets[members])
        scores = np.empty_like(self.targets)
        for f in range(FOLDS):
            mine = self.fold == f
            gf, mf = _sums(self.features[mine & kept], self.targets[mine & kept])
            weights = _solve(self.gram - g - gf, self.moments - m - mf, int((kept & ~mine).sum()))
            scores[mine] = self.features[mine] @ weights
        return scores


def margins(scores: Floats, label: int | Labels) -> Floats:
    """How far the best other class leads over `label`, (N,); positive means "another class"."""
    rows = np.arange(len(scores))
    own = scores[rows, label]
    others = scores.copy()
    others[rows, label] = -np.inf
    result: Floats = others.max(axis=1) - own
    return result


def _features(suspects: Suspects, seed: int) -> tuple[Extractor, Floats]:
    """The extractor fitted to the set, and the features of all its images."""
    shrink = max(1, -(-max(suspects.shape[1:]) // _LARGEST))
    kernel, bias = _filters(suspects, shrink, seed)
    width = len(kernel) * GRID * GRID
    raw = Extractor(kernel, bias, shrink, np.zeros(width, np.float32), np.ones(width, np.float32))
    out = np.ones((len(suspects), width + 1), np.float32)
    chunk = suspects.at_once(_CHUNK)
    for start in range(0, len(suspects), chunk):
        part = slice(start, start + chunk)
        raw.fill(out[part], suspects.floats(part))
    body = out[:, :-1]
    mean = body.mean(axis=0)
    body -= mean
    scale = np.sqrt(np.einsum("ij,ij->j", body, body) / len(body)) + np.float32(1e-6)
    body /= scale
    return replace(raw, mean=mean, scale=scale.astype(np.float32)), out


def _filters(suspects: Suspects, shrink: int, seed: int) -> tuple[Floats, Floats]:
    """Whitened unit-length patches as a convolution: kernel (F, C, s, s) and bias (F, 1, 1)."""
    rng = np.random.default_rng([seed, 5])
    few = rng.choice(len(suspects), min(len(suspects), suspects.at_once(2_000)), replace=False)
    images = suspects.floats(np.sort(few))
    if shrink > 1:
        images = _shrunk(images, shrink)
    side = min(SIDE, *images.shape[2:])
    patches = _random_patches(images, side, rng)
    patches -= patches.mean(axis=1, keepdims=True)
    patches /= np.sqrt(patches.var(axis=1, keepdims=True) + 0.01)
    centre = patches.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((patches - centre).T))
    whiten = (vectors / np.sqrt(np.maximum(values, 0) + 0.1)) @ vectors.T
    white = (patches - centre) @ whiten
    lively = np.flatnonzero(np.linalg.norm(white, axis=1) > 1e-3)
    pool = lively if len(lively) else np.arange(len(white))
    chosen = white[rng.choice(pool, FILTERS, replace=len(pool) < FILTERS)]
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True) + 1e-9
    folded = chosen @ whiten
    bias = -(folded @ centre) - 0.5
    folded -= folded.mean(axis=1, keepdims=True)
    kernel = folded.reshape(FILTERS, images.shape[1], side, side).astype(np.float32)
    return kernel, bias.astype(np.float32).reshape(-1, 1, 1)


def _shrunk(images: Floats, factor: int) -> Floats:
    h, w = (side // factor * factor for side in images.shape[2:])
    blocks = images[:, :, :h, :w].reshape(*images.shape[:2], h // factor, factor, -1, factor)
    small: Floats = blocks.mean(axis=(3, 5))
    return small


def _random_patches(images: Floats, side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    which = rng.integers(0, len(images), _PATCHES)
    top = rng.integers(0, images.shape[2] - side + 1, _PATCHES)
    left = rng.integers(0, images.shape[3] - side + 1, _PATCHES)
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(2, 3))
    taken = windows[which, :, top, left].reshape(_PATCHES, -1).astype(np.float64)
    varied = taken[taken.std(axis=1) > 1e-3]
    return varied if len(varied) > 100 else taken


def _sums(features: Floats, targets: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    gram = (features.T @ features).astype(np.float64)
    return gram, (features.T @ targets).astype(np.float64)


def _solve(gram: NDArray[np.float64], moments: NDArray[np.float64], count: int) -> Floats:
    from scipy.linalg import cho_factor, cho_solve

    # In units of one sample, single precision is enough: the ridge bounds the condition.
    ridge = (gram / max(count, 1)).astype(np.float32)
    diagonal = np.arange(len(ridge))
    ridge[diagonal, diagonal] += np.float32(_RIDGE)
    factor = cho_factor(ridge, lower=True, overwrite_a=True, check_finite=False)
    weights = cho_solve(factor, (moments / max(count, 1)).astype(np.float32), check_finite=False)
    return np.asarray(weights, np.float32)
