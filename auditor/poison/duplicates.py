"""Exact and near copies: the same picture again, perhaps under another label."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from auditor.poison.interface import Floats, Method, Result, Study, nothing

NEAR = 0.02
"""Largest root-mean-square difference of two pictures that count as the same, in 0..1 units."""

_SIDE, _PROJECTIONS, _NEIGHBOURS = 8, 6, 4
_MOST_PAIRS = 50_000


class Duplicates(Method):
    """Groups of copies; flags those whose labels contradict each other."""

    name = "duplicates"
    title = "Exact and near duplicates"
    doc = (
        "Exact copies by hash; near copies by sorting shrunken pictures along random projections "
        "and comparing neighbours (root-mean-square difference up to 0.02). Copies are only "
        "counted; one under another label is flagged, and the label of the majority suggested. "
        "Shifted, rotated or recoloured copies are not found."
    )
    order = 80

    def run(self, study: Study) -> Result:
        """Count copies, flag contradictions."""
        score, flagged = nothing(study)
        suggested = np.full(len(study.labels), -1, np.int64)
        exact = exact_groups(study)
        near = near_groups(study)
        copies = sum(len(g) - 1 for g in exact)
        for group in (*exact, *near):
            score[group[1:]] = np.maximum(score[group[1:]], 0.1)
            labels, counts = np.unique(study.labels[group], return_counts=True)
            if len(labels) > 1:
                majority = labels[counts.argmax()]
                tied = (counts == counts.max()).sum() > 1
                odd = group if tied else group[study.labels[group] != majority]
                flagged[odd] = True
                score[odd] = 1.0
                suggested[odd] = -1 if tied else majority
        notices = []
        if copies:
            notices.append(
                f"{copies} of {len(study.labels)} samples are exact copies of others; training on "
                "copies overstates every figure measured on them."
            )
        return Result(
            score,
            flagged,
            "copy of a picture with another label",
            suggested=suggested,
            metrics={
                "duplicates.exact": copies,
                "duplicates.near": sum(len(g) - 1 for g in near),
                "duplicates.contradicting": int(flagged.sum()),
            },
            notices=notices,
        )


def exact_groups(study: Study) -> list[NDArray[np.int64]]:
    """Index groups of identical pictures, each of at least two."""
    met: dict[bytes, list[int]] = defaultdict(list)
    for number, image in enumerate(study.suspects.pixels):
        met[hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()].append(
            number
        )
    return [np.array(g) for g in met.values() if len(g) > 1]


def near_groups(study: Study) -> list[NDArray[np.int64]]:
    """Pairs of pictures closer than `NEAR` that are not identical.

    Near pictures lie near each other in every projection: each sample meets its next neighbours
    along a few random ones, and what meets is compared by its pixels.
    """
    small = thumbnails(study)
    rng = np.random.default_rng([study.seed, 37])
    met: list[NDArray[np.int64]] = []
    for _ in range(_PROJECTIONS):
        order = (small @ rng.standard_normal(small.shape[1])).argsort(kind="stable")
        for step in range(1, _NEIGHBOURS + 1):
            pairs = np.column_stack([order[:-step], order[step:]])
            gap = ((small[pairs[:, 0]] - small[pairs[:, 1]]) ** 2).mean(axis=1)
            met.append(np.sort(pairs[gap <= NEAR**2], axis=1))
    candidates = np.unique(np.concatenate(met), axis=0)[:_MOST_PAIRS]
    return [pair for pair in candidates if 0 < _gap(study, pair) <= NEAR]


def _gap(study: Study, pair: NDArray[np.int64]) -> float:
    first, second = study.suspects.floats(pair)
    return float(np.sqrt(((first - second) ** 2).mean()))


def thumbnails(study: Study) -> Floats:
    """(N, 64) grey 8x8 pictures in 0..1."""
    _, h, w = study.suspects.shape
    rows = np.minimum(np.arange(_SIDE) * h // _SIDE, h - 1)
    columns = np.minimum(np.arange(_SIDE) * w // _SIDE, w - 1)
    parts = []
    chunk = study.suspects.at_once(4_000)
    for start in range(0, len(study.labels), chunk):
        grey = study.suspects.floats(slice(start, start + chunk)).mean(axis=1)
        down = np.add.reduceat(grey, np.unique(rows), axis=1)
        both = np.add.reduceat(down, np.unique(columns), axis=2)
        area = (h / len(np.unique(rows))) * (w / len(np.unique(columns)))
        parts.append((both / area).reshape(len(grey), -1))
    return np.clip(np.concatenate(parts), 0, 1).astype(np.float32)
