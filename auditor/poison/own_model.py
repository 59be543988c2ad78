"""A small network of our own, trained on the suspect set when there is no model to ask.

Two short epochs: long enough to learn a trigger (they are the easiest thing in a set to learn),
too short to learn single wrong labels by heart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from auditor.poison.interface import Floats, Predict, Suspects

if TYPE_CHECKING:
    from torch import Tensor, nn

EPOCHS, LEAST_STEPS, BATCH = 2, 600, 128
_RATE = 3e-3
_LARGEST = 64
_WIDTH = 64


def train_own(
    suspects: Suspects, seed: int, spent: Callable[[], bool] = lambda: False
) -> tuple[Floats, Floats, Predict]:
    """Activations (N, 64), scores (N, K) of the set, and a way to ask about other images."""
    import torch
    from torch.nn import functional

    torch.manual_seed(seed)
    shrink = max(1, -(-max(suspects.shape[1:]) // _LARGEST))
    classes = int(suspects.labels.max()) + 1
    body, head = _network(suspects.shape[0], classes)
    parameters = [*body.parameters(), *head.parameters()]
    per_epoch = -(-len(suspects) // BATCH)
    steps = max(EPOCHS * per_epoch, LEAST_STEPS)
    optimizer = torch.optim.Adam(parameters, _RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    labels = torch.from_numpy(suspects.labels)
    rng = np.random.default_rng([seed, 43])
    order = np.empty(0, np.int64)
    for _ in range(steps):
        if spent():
            break
        if len(order) < min(BATCH, len(suspects)):
            order = rng.permutation(len(suspects))
        index, order = order[:BATCH], order[BATCH:]
        x = _small(torch.from_numpy(suspects.floats(index)), shrink)
        loss = functional.cross_entropy(head(body(x)), labels[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    body.eval()

    def run(images: Floats) -> tuple[Floats, Floats]:
        activations, scores = [], []
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                part = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH]))
                inner = body(_small(part, shrink))
                activations.append(inner.numpy())
                scores.append(head(inner).numpy())
        return np.concatenate(activations), np.concatenate(scores)

    chunk = suspects.at_once(4_000)
    parts = [
        run(suspects.floats(slice(start, start + chunk)))
        for start in range(0, len(suspects), chunk)
    ]
    return (
        np.concatenate([a for a, _ in parts]),
        np.concatenate([s for _, s in parts]),
        lambda images: run(images)[1],
    )


def _small(images: Tensor, factor: int) -> Tensor:
    from torch.nn import functional

    return functional.avg_pool2d(images, factor) if factor > 1 else images


def _network(channels: int, classes: int) -> tuple[nn.Module, nn.Module]:
    from torch import nn

    body = nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(7),
        nn.Flatten(),
        nn.Linear(32 * 49, _WIDTH),
        nn.ReLU(),
    )
    return body, nn.Linear(_WIDTH, classes)
