"""Principal axes by the cheaper of two routes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def principal_axes(points: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Orthonormal rows (k, D): the leading directions with `share` of the variance.

    `points` (n, D) are centred. Solves whichever of the (n, n) and (D, D) problems is smaller.
    """
    n, d = points.shape
    wide = points.astype(np.float64)
    values, vectors = np.linalg.eigh(wide.T @ wide if d <= n else wide @ wide.T)
    order = values.argsort()[::-1]
    explained = np.cumsum(values[order]) / max(float(values.sum()), 1e-12)
    kept = order[: int((explained < share).sum()) + 1]
    axes = vectors[:, kept].T
    if d > n:
        axes = (axes @ wide) / np.sqrt(np.maximum(values[kept], 1e-9))[:, None]
    return np.asarray(axes, np.float32)
