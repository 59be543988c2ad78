"""Samples in an ``.npz`` archive with arrays ``x`` and ``y`` (or ``images`` and ``labels``)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from auditor.errors import UnreadableSamples
from auditor.samples.interface import Images

if TYPE_CHECKING:
    from auditor.samples.readers import Request

_PAIRS = (("x", "y"), ("images", "labels"))


def is_npz(path: Path) -> bool:
    """True for a zip archive whose members are ``.npy`` arrays."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def read(path: Path, request: Request) -> Images:
    """Read `path`; arrays of objects (pickles) are refused. Raises `UnreadableSamples`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return _from_archive(archive, path.name, request.split)
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise UnreadableSamples(f"{path.name} cannot be read as .npz samples: {error}") from error


def _from_archive(archive: Any, name: str, split: str) -> Images:
    pairs = (*_PAIRS, (f"x_{split}", f"y_{split}"))
    for x, y in pairs:
        if x in archive.files and y in archive.files:
            classes = archive["classes"] if "classes" in archive.files else ()
            return from_arrays(archive[x], archive[y], name, tuple(str(c) for c in classes))
    raise UnreadableSamples(
        f"{name} must hold arrays x and y; it holds {', '.join(sorted(archive.files)) or 'none'}"
    )


def from_arrays(
    x: NDArray[Any], y: NDArray[Any], source: str, classes: tuple[str, ...] = ()
) -> Images:
    """`Images` from raw arrays: x (N,H,W), (N,C,H,W), (N,H,W,C) or square flat (N,D); y (N,).

    uint8 is read as 0..255; floats within 0..1 as they are, within 0..255 divided by 255; floats
    with negative values are taken as already normalised (`Images.stored_range`). Raises
    `UnreadableSamples` on wrong counts, shapes or values.
    """
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] > 1 and np.allclose(y.sum(axis=1), 1):
        y = y.argmax(axis=1)  # one-hot labels
    y = y.reshape(-1) if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise UnreadableSamples(f"labels in {source} must be one number per image, not {y.shape}")
    if x.shape[:1] != y.shape:
        raise UnreadableSamples(
            f"{source} has {len(x) if x.ndim else 0} images but {len(y)} labels: "
            "the counts must agree"
        )
    labels = _labels(y, source)
    pixels, stored_range = _unit_scale(_as_nchw(x, source), source)
    return Images(pixels, labels, source, classes, stored_range)


def _labels(y: NDArray[Any], source: str) -> NDArray[np.int64]:
    if not np.issubdtype(y.dtype, np.number) or np.any(y != np.round(y)) or np.any(y < 0):
        raise UnreadableSamples(f"labels in {source} must be whole numbers from 0 up")
    return y.astype(np.int64)


def _as_nchw(x: NDArray[Any], source: str) -> NDArray[Any]:
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == np.bool_):
        raise UnreadableSamples(f"images in {source} are {x.dtype}, not numbers")
    if x.ndim == 2:
        for channels in (1, 3):
            side = round((x.shape[1] / channels) ** 0.5)
            if side * side * channels == x.shape[1]:
                return x.reshape(len(x), channels, side, side)
    elif x.ndim == 3:
        if x.shape[2] == 1:
            return _as_nchw(x[:, :, 0], source)
        return x[:, None]
    elif x.ndim == 4 and x.shape[1] in (1, 3):
        return x
    elif x.ndim == 4 and x.shape[3] in (1, 3):
        return np.moveaxis(x, 3, 1)
    elif x.ndim == 4 and x.shape[3] == 4:
        return np.moveaxis(x[..., :3], 3, 1)
    raise UnreadableSamples(
        f"images in {source} have shape {x.shape}: expected (N,H,W), (N,C,H,W) or (N,H,W,C) with "
        "1 or 3 channels, or flat square images"
    )


def _unit_scale(
    x: NDArray[Any], source: str
) -> tuple[NDArray[np.float32], tuple[float, float] | None]:
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x, dtype=np.float32) / np.float32(255), None
    values = np.ascontiguousarray(x, dtype=np.float32)
    if values.size == 0:
        return values, None
    if not np.isfinite(values).all():
        raise UnreadableSamples(f"images in {source} contain NaN or infinite values")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return values, None
    if low >= 0 and high <= 255:
        return values / np.float32(255), None
    return (values - low) / np.float32(high - low), (low, high)
