"""Small pictures for reports, as uint8 arrays. No plotting library."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Picture = NDArray[np.uint8]
_SIDE, _GAP = 64, 4


def sheet(rows: list[Pixels]) -> Picture:
    """A grid, one row per entry: each float32 (N, C, H, W) in 0..1, enlarged to a readable size."""
    colour = any(row.shape[1] == 3 for row in rows)
    columns = max(len(row) for row in rows)
    tiles = [[_tile(image) for image in row] for row in rows]
    height, width = tiles[0][0].shape[:2]
    page = np.full(
        (len(rows) * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8
    )
    for r, row in enumerate(tiles):
        for c, tile in enumerate(row):
            top, left = r * (height + _GAP), c * (width + _GAP)
            page[top : top + height, left : left + width] = tile
    return page if colour else page[:, :, 0]


def before_after(clean: Pixels, changed: Pixels) -> Picture:
    """Two rows: the images and their changed form."""
    return sheet([clean, changed])


def _tile(image: Pixels) -> Picture:
    scale = max(1, _SIDE // max(image.shape[1:]))
    step = max(1, max(image.shape[1:]) // 128)
    pixels = np.moveaxis(image[:, ::step, ::step], 0, 2)
    grown = np.repeat(np.repeat(pixels, scale, axis=0), scale, axis=1)
    if grown.shape[2] == 1:
        grown = np.repeat(grown, 3, axis=2)
    return np.round(np.clip(grown, 0, 1) * 255).astype(np.uint8)
