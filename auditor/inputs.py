"""Which samples a scan uses: what the user named, else what a zoo manifest names, else none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.artifacts.interface import Description
from auditor.errors import AuditError, UnreadableSamples, UsageError
from auditor.manifest import read_data_hint
from auditor.options import ScanOptions
from auditor.samples.interface import Images
from auditor.samples.readers import NAMED, read_samples

_MOST_VALUES = 64_000_000
"""Pixels sent to the child at most, as float32: 256 MB."""

_FIRST_LOOK = 10_000


def load_samples(
    model: Path, options: ScanOptions, description: Description | None, notices: list[str]
) -> Images | None:
    """Labelled clean samples, or None. Raises `UnreadableSamples` for data the user named."""
    if options.profile != "full":
        return None
    if options.data is not None:
        samples = _read(options.data, options, options.split, description)
    else:
        hinted = _hinted(model, options, description, notices)
        if hinted is None:
            return None
        samples = hinted
    return _in_model_order(samples, options.classes, notices)


def load_training(options: ScanOptions, description: Description | None) -> Images | None:
    """The suspect training set the user named, or None."""
    if options.train_data is None or options.profile != "full":
        return None
    training = _read(options.train_data, options, "train", description)
    return _in_model_order(training, options.classes, [])


def _read(
    source: str | Path | Images, options: ScanOptions, split: str, description: Description | None
) -> Images:
    limit = _FIRST_LOOK if split == "test" else None
    if isinstance(source, Images):
        images = source.shuffled(options.seed, limit)
    else:
        images = read_samples(
            source,
            root=options.data_root,
            split=split,
            limit=limit,
            seed=options.seed,
            size=options.overrides.size or fixed_size(description),
            download=options.download,
        )
    affordable = max(10, _MOST_VALUES // max(1, int(np.prod(images.pixels.shape[1:]))))
    return images if len(images) <= affordable else images.shuffled(options.seed, affordable)


def _hinted(
    model: Path, options: ScanOptions, description: Description | None, notices: list[str]
) -> Images | None:
    """The data set a manifest beside the model names; a problem with it is only a notice."""
    try:
        hint = read_data_hint(model)
        if hint is None or hint.name not in NAMED:
            return None
        samples = _read(hint.name, options, hint.split, description)
    except AuditError as error:
        notices.append(f"The manifest's data set was not used: {error}")
        return None
    notices.append(f"Samples: {samples.source}, named by the manifest beside the model.")
    return samples


def fixed_size(description: Description | None) -> tuple[int, int] | None:
    """(H, W) when the model's input states it."""
    if description is None or len(description.inputs) != 1:
        return None
    shape = description.inputs[0].shape
    if shape is None or len(shape) != 4:
        return None
    sides = shape[1:3] if shape[3] in (1, 3) and shape[1] not in (1, 3) else shape[2:4]
    height, width = sides
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _in_model_order(images: Images, names: tuple[str, ...], notices: list[str]) -> Images:
    """Relabel by name when the user stated the model's class names in order."""
    if not names:
        return images
    if not images.classes:
        return replace(images, classes=names)
    missing = [c for c in images.classes if c not in names]
    if missing:
        raise UsageError(
            f"--classes does not name {missing[0]!r}, a class of the samples "
            f"({', '.join(images.classes[:8])})"
        )
    order = np.array([names.index(c) for c in images.classes], dtype=np.int64)
    notices.append("Labels were put into the order given with --classes.")
    return replace(images, labels=order[images.labels], classes=names)


def to_wire(
    images: Images | None, prefix: str
) -> tuple[Mapping[str, Any], dict[str, NDArray[Any]]]:
    """What the child's ``images_from`` reads back."""
    if images is None:
        return {}, {}
    if len(images) == 0:
        raise UnreadableSamples(f"{images.source} holds no labelled images")
    about = {
        "source": images.source,
        "classes": list(images.classes),
        "stored_range": None if images.stored_range is None else list(images.stored_range),
    }
    return {prefix: about}, {f"{prefix}.pixels": images.pixels, f"{prefix}.labels": images.labels}
