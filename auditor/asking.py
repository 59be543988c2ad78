"""Activations and scores of a whole set: from the sandboxed model, or from a network of our own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.errors import UnreadableSamples, UnsupportedArtifact
from auditor.inputs import to_wire
from auditor.options import ScanOptions
from auditor.poison.interface import Suspects
from auditor.samples.ordered import Ordered
from auditor.sandbox.host import Worker
from auditor.stages import cores, heavy_worker, overrides_to_wire

MOST, VALUES = 2_000, 16_000_000
"""Images in one message at most, and pixel values."""

_INFER = 400


@dataclass(slots=True)
class Asked:
    """What the model said about the whole set."""

    activations: NDArray[np.float32]
    scores: NDArray[np.float32]
    predict: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    order: NDArray[np.int64]
    notices: list[str] = field(default_factory=list)
    protections: dict[str, Any] = field(default_factory=dict)


def ask_own(suspects: Suspects, options: ScanOptions) -> Asked:
    """Train a small network on the set and take its word."""
    from auditor.poison.own_model import train_own

    count = int(suspects.labels.max()) + 1
    if suspects.labels.min() == suspects.labels.max():
        # One class teaches nothing; the methods that need two say so themselves.
        blank = np.zeros((len(suspects), 1), np.float32)
        scores = np.zeros((len(suspects), count), np.float32)
        scores[:, -1] = 1.0

        def same(images: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.repeat(scores[:1], len(images), axis=0)

        return Asked(blank, scores, same, np.arange(count))
    with _threads(options):
        activations, scores, predict = train_own(suspects, options.seed)
    notice = "No model was given: a small network of our own was trained on the set instead."
    return Asked(activations, scores, predict, np.arange(count), [notice])


@contextlib.contextmanager
def _threads(options: ScanOptions) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(options.jobs or cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def ask_model(model: Path, data: Ordered, options: ScanOptions) -> Iterator[Asked]:
    """Open the model in its child, stream the set through it, keep it to be asked again."""
    with heavy_worker(model, options) as worker:
        order, notices = _open(worker, model, data, options)
        features, scores = [], []
        chunk = max(8, min(MOST, VALUES // max(1, int(np.prod(data.pixels.shape[1:])))))
        for start in range(0, len(data), chunk):
            message = worker.result(
                "activations", {"features": True}, {"pixels": data.pixels[start : start + chunk]}
            )
            features.append(np.asarray(message.arrays["features"], np.float32))
            scores.append(np.asarray(message.arrays["scores"], np.float32))

        def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
            parts = [
                worker.result("activations", {}, {"pixels": images[s : s + chunk]}).arrays["scores"]
                for s in range(0, len(images), chunk)
            ]
            return np.asarray(np.nan_to_num(np.concatenate(parts)), np.float32)

        told = {name: asdict(value) for name, value in worker.protections.items()}
        yield Asked(np.concatenate(features), np.concatenate(scores), predict, order, notices, told)


def _open(
    worker: Worker, model: Path, data: Ordered, options: ScanOptions
) -> tuple[NDArray[np.int64], list[str]]:
    few = np.sort(_balanced(data.labels, _INFER, options.seed))
    about, arrays = to_wire(data.images(few), "samples")
    params = {
        "path": str(model.absolute()),
        "seed": options.seed,
        "threads": options.jobs or cores(),
        "device": options.device,
        "overrides": overrides_to_wire(options),
        **about,
    }
    body = worker.result("activations", params, arrays).body
    if body.get("reason"):
        raise UnsupportedArtifact(f"{model.name}: {body['reason']}")
    order = np.arange(int(data.labels.max()) + 1)
    for own, models in zip(body["labels"], body["model_labels"], strict=True):
        order[int(own)] = int(models)
    classes = int(body["session"]["classes"])
    if int(data.labels.max()) >= classes:
        raise UnreadableSamples(
            f"{data.source} has labels up to {int(data.labels.max())} but the model has only "
            f"{classes} classes: wrong data or wrong label file"
        )
    return order, [str(n) for n in body["notices"]]


def _balanced(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        rank[mine] = np.arange(len(mine))
    return order[np.argsort(rank[order], kind="stable")][:count]


def finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A model may answer with anything; what is not finite becomes zero or very large."""
    return np.clip(np.nan_to_num(values), -1e6, 1e6)
