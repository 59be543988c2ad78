"""Spectral signatures (Tran et al., 2018) and their robustly whitened form (SPECTRE, 2021)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from auditor.poison.interface import Candidate, Floats, Method, Result, Study, nothing

DIRECTIONS = 32
"""Leading directions kept for whitening."""

TRIM, ROUNDS = 0.2, 3
"""Share of the farthest samples the robust covariance leaves out, and how often it is refined."""

ALPHA = 4.0
"""Sharpness of the QUE score (Hayase et al. 2021 use 4)."""


class SpectralSignatures(Method):
    """Proposes the far end of each class's strongest direction."""

    name = "spectral"
    title = "Spectral signatures"
    doc = (
        "The squared projection of a class's centred activations on their top singular vector "
        "(Tran et al. 2018). As published the 1.5 epsilon n largest are removed, whatever they "
        "are; here the far end is only a candidate. Weak when poison is rare or the class itself "
        "is wide."
    )
    order = 20

    def run(self, study: Study) -> Result:
        """Candidates and scores for every class."""
        score, flagged = nothing(study)
        rows = []
        for label, index in study.groups().items():
            projected = top_projection(study.activations[index])
            score[index] = _unit(projected**2)
            far = upper_end(np.abs(projected))
            study.candidates.append(Candidate(label, index[far], "spectral"))
            rows.append({"class": label, "candidates": int(far.sum())})
        return Result(score, flagged, "spectral signature", metrics={"per_class": rows})


class RobustWhitening(Method):
    """Proposes what is far after whitening with the bulk's own covariance."""

    name = "spectre"
    title = "Robust whitening (SPECTRE)"
    doc = (
        "Whitens each class's activations with a covariance estimated without its farthest "
        "samples, then scores by quantum entropy (QUE; Hayase et al. 2021): rare poison that is "
        "small beside the class's own variance stands out. Candidates only."
    )
    order = 30

    def run(self, study: Study) -> Result:
        """Candidates and scores for every class."""
        score, flagged = nothing(study)
        rows = []
        for label, index in study.groups().items():
            que = que_scores(study.activations[index])
            score[index] = _unit(que)
            far = upper_end(np.log(que + 1e-12))
            study.candidates.append(Candidate(label, index[far], "spectre"))
            rows.append({"class": label, "candidates": int(far.sum())})
        return Result(score, flagged, "robust whitening", metrics={"per_class": rows})


def top_projection(activations: Floats) -> NDArray[np.float64]:
    """Projection (n,) of the centred activations on their strongest direction."""
    centred = activations.astype(np.float64) - activations.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    projected: NDArray[np.float64] = centred @ vectors[:, -1]
    return projected


def que_scores(activations: Floats) -> NDArray[np.float64]:
    """QUE outlier score (n,) after robust whitening; larger is farther."""
    points = activations.astype(np.float64) - np.median(activations, axis=0)
    values, vectors = np.linalg.eigh(points.T @ points / len(points))
    kept = min(DIRECTIONS, max(1, int((values > 1e-9 * max(values[-1], 1e-12)).sum())))
    points = points @ vectors[:, ::-1][:, :kept]
    white = points
    inside = np.ones(len(points), bool)
    for _ in range(ROUNDS):
        centre = points[inside].mean(axis=0)
        own, axes = np.linalg.eigh(np.cov(points[inside].T).reshape(kept, kept))
        white = (points - centre) @ (axes / np.sqrt(np.maximum(own, 1e-12 * max(own[-1], 1e-12))))
        distance = (white**2).sum(axis=1)
        inside = distance <= np.quantile(distance, 1 - TRIM)
    spread = white.T @ white / len(white)
    norm = np.linalg.norm(spread, 2)
    own, axes = np.linalg.eigh(spread)
    weight = np.exp(ALPHA * np.clip((own - 1) / max(norm - 1, 1e-9), -1, 1))
    scores: NDArray[np.float64] = ((white @ axes) ** 2 @ weight) / weight.sum()
    return scores


def upper_end(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The upper of two groups by Otsu's threshold (1979): least variance within both."""
    ordered = np.sort(values)
    n = len(ordered)
    if n < 2 or ordered[0] == ordered[-1]:
        return np.zeros(n, bool)
    below = np.arange(1, n)
    sums = np.cumsum(ordered)
    low = sums[:-1] / below
    high = (sums[-1] - sums[:-1]) / (n - below)
    between = below * (n - below) * (high - low) ** 2
    cut = int(between.argmax())
    return np.asarray(values > ordered[cut])


def _unit(values: NDArray[np.float64]) -> Floats:
    """Ranks within the class as 0..1: scores of different classes become comparable."""
    order = values.argsort().argsort()
    return (order / max(1, len(values) - 1)).astype(np.float32)
