"""Activation clustering (Chen et al., 2018): two clusters per class in ICA and PCA coordinates."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.poison.interface import FEWEST, Candidate, Floats, Mask, Method, Result, Study, nothing

DIMENSIONS = 10
FINER = 5
SMALL, SEPARATE = 0.35, 0.10
"""Published rule: a cluster with less than this share, a silhouette above this bound."""


@dataclass(frozen=True, slots=True)
class Split:
    """Two clusters of one class: `small` marks the members of the smaller one."""

    small: Mask
    share: float
    silhouette: float


class ActivationClustering(Method):
    """Proposes both ways to cut each class in two."""

    name = "clustering"
    title = "Activation clustering"
    doc = (
        "Reduces the activations of each class to 10 dimensions (ICA and PCA) and cuts them in two "
        "by 2-means (Chen et al. 2018). As published, a small cluster with a good silhouette is "
        "poison; clean classes have such clusters too (two ways to write a 7), so here a cluster "
        "is only a candidate that exclusionary reclassification and the trigger search judge."
    )
    order = 10

    def run(self, study: Study) -> Result:
        """Candidates for every class; flags nothing by itself."""
        score, flagged = nothing(study)
        rows = []
        for label, index in study.groups().items():
            row: dict[str, object] = {"class": label}
            for kind, points in coordinates(study.activations[index], study.seed).items():
                split = two_means(points, study.seed)
                if kind == "pca":
                    score[index] = _lean(points, split)
                for word, mask in (("small", split.small), ("large", ~split.small)):
                    study.candidates.append(
                        Candidate(label, index[mask], f"clustering-{kind}-{word}")
                    )
                parts = finer(points, study.seed) if kind == "pca" else []
                for number, part in enumerate(parts):
                    study.candidates.append(
                        Candidate(label, index[part], f"clustering-{kind}-{number + 1}")
                    )
                row[f"{kind}_share"] = round(split.share, 4)
                row[f"{kind}_silhouette"] = round(split.silhouette, 4)
            row["published_rule"] = bool(
                split.share < SMALL and split.silhouette > SEPARATE  # of the last, ICA if it ran
            )
            rows.append(row)
        return Result(score, flagged, "activation cluster", metrics={"per_class": rows})


def coordinates(activations: Floats, seed: int) -> dict[str, NDArray[np.float64]]:
    """PCA coordinates (n, at most 10), and ICA ones where FastICA converges."""
    centred = activations.astype(np.float64) - activations.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    kept = min(DIMENSIONS, int((values > 1e-9 * max(values[-1], 1e-12)).sum()), len(centred) - 1)
    if kept < 1:
        return {"pca": np.zeros((len(centred), 1))}
    points = centred @ vectors[:, ::-1][:, :kept]
    found = {"pca": points}
    if kept >= 2:
        from sklearn.decomposition import FastICA
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                ica = FastICA(kept, whiten="unit-variance", random_state=seed, max_iter=200)
                found["ica"] = ica.fit_transform(points)
            except (ConvergenceWarning, ValueError, np.linalg.LinAlgError):
                pass
    return found


def two_means(points: NDArray[np.float64], seed: int) -> Split:
    """2-means, the smaller cluster's share and the silhouette (on at most 1,000 members)."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    if np.ptp(points, axis=0).max() <= 0:
        return Split(np.zeros(len(points), bool), 0.0, 0.0)
    labels = KMeans(2, n_init=3, random_state=seed).fit_predict(points)
    small = labels == int(labels.sum() * 2 < len(labels))
    quality = 0.0
    if 0 < small.sum() < len(small):
        size = min(1000, len(points))
        try:
            quality = float(silhouette_score(points, labels, sample_size=size, random_state=seed))
        except ValueError:  # the drawn thousand all lie in one cluster
            quality = 0.0
    return Split(small, float(small.mean()), quality)


def finer(points: NDArray[np.float64], seed: int) -> list[NDArray[np.int64]]:
    """Members of each of five clusters: rare poison is too small for half a class."""
    from sklearn.cluster import KMeans

    if len(points) < FINER * FEWEST or np.ptp(points, axis=0).max() <= 0:
        return []
    labels = KMeans(FINER, n_init=2, random_state=seed).fit_predict(points)
    return [np.flatnonzero(labels == k) for k in range(FINER)]


def _lean(points: NDArray[np.float64], split: Split) -> Floats:
    """0..1: how far a sample leans to the small cluster's centre."""
    if not split.small.any():
        return np.zeros(len(points), np.float32)
    near = np.linalg.norm(points - points[split.small].mean(axis=0), axis=1)
    far = np.linalg.norm(points - points[~split.small].mean(axis=0), axis=1)
    return np.asarray(far / (near + far + 1e-12), np.float32)
