"""MNIST's IDX files, plain or .gz, as distributed."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from auditor.errors import UnreadableSamples
from auditor.samples.interface import Images

if TYPE_CHECKING:
    from auditor.samples.readers import Request

_PREFIX = {"train": "train", "test": "t10k"}
_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def is_idx_folder(folder: Path) -> bool:
    """True when the folder holds IDX image files."""
    return any(folder.glob("*images*idx3-ubyte*"))


def read(folder: Path, request: Request) -> Images:
    """The wanted split of an IDX folder. Raises `UnreadableSamples`."""
    pixels8, labels, classes, source = read_whole(folder, request.split)
    every = Images(pixels8, labels, source, classes)  # type: ignore[arg-type]  # uint8 until taken
    chosen = every.shuffled(request.seed, request.limit)
    pixels = chosen.pixels.astype(np.float32) / np.float32(255)
    return Images(pixels, chosen.labels, chosen.source, chosen.classes)


def read_whole(
    folder: Path, split: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...], str]:
    """Pixels uint8 (N, 1, H, W), labels (N,), class names and source, in the files' order."""
    prefix = _PREFIX[split]
    images = _decode(find(folder, prefix, "images"), dimensions=3)
    labels = _decode(find(folder, prefix, "labels"), dimensions=1)
    if len(images) != len(labels):
        raise UnreadableSamples(
            f"{folder.name} has {len(images)} images but {len(labels)} labels: counts must agree"
        )
    names = _FASHION if "fashion" in folder.name.lower() else ()
    return images[:, None], labels.astype(np.int64), names, f"{folder.name} ({split})"


def find(folder: Path, prefix: str, kind: str) -> Path:
    """The IDX file of a split (`prefix` ``train`` or ``t10k``). Raises `UnreadableSamples`."""
    found = sorted(folder.glob(f"{prefix}*{kind}*ubyte*")) or sorted(folder.glob(f"*{kind}*ubyte*"))
    if not found:
        raise UnreadableSamples(f"{folder.name} has no {prefix}-{kind} IDX file")
    return found[0]


def _decode(path: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        header = struct.unpack(f">HBB{dimensions}I", raw[: 4 + 4 * dimensions])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise UnreadableSamples(f"{path.name} cannot be read as an IDX file: {error}") from error
    shape = header[3:]
    body = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * dimensions)
    if header[:3] != (0, 8, dimensions) or body.size != np.prod(shape, dtype=np.int64):
        raise UnreadableSamples(
            f"{path.name} is not a complete IDX file of {dimensions} dimensions"
        )
    return body.reshape(shape)
