"""Fooling inputs: pictures of nothing that the model is sure about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from auditor.checks.behaviour import robustness_common as common
from auditor.checks.behaviour.pictures import sheet
from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete
from auditor.findings import Figure, Metric, Notice, Outcome

if TYPE_CHECKING:
    from torch import Tensor

    from auditor.attacks.interface import Predict

SURE = 0.99
_CLASSES = 100
_OUTSIDE = 40


class FoolingInputs(BehaviourCheck):
    """Noise and blank images optimised to 0.99 confidence; confidence on images of nothing."""

    name = "robustness.fooling"
    title = "Fooling inputs"
    doc = (
        "From noise and from a blank image, gradient steps towards each class until the artifact "
        "gives it 0.99 (Nguyen, Yosinski, Clune 2015); and how often the artifact is 0.99 sure of "
        "noise, flat and pixel-shuffled images as they are. Nearly every ordinary network can be "
        "fooled so; it shows what confidence is worth, not that something was done to the model."
    )
    needs = frozenset({"gradients"})
    order = 67
    weight = 0.5

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield fooling rates per start, confident rates on outside images, and a picture."""
        predict = common.twin_function(context)
        common.need_time(context)
        yield from _outside(context)
        shape, classes = context.classifier.image_shape, context.classifier.classes
        wanted = np.arange(min(classes, _CLASSES))
        if classes > _CLASSES:
            yield Notice(f"Fooling inputs were searched for the first {_CLASSES} classes only.")
        rng = np.random.default_rng(context.seed)
        starts = {
            "noise": rng.random((len(wanted), *shape), np.float32),
            "blank": np.full((len(wanted), *shape), 0.5, np.float32),
        }
        steps = common.whole_number(context, "fooling_steps", 100)
        rows: list[NDArray[np.float32]] = []
        for name, start in starts.items():
            if context.budget.spent and rows:
                yield Notice(f"Fooling inputs from {name} images were left out (time budget).")
                break
            images, tried = _climb(context, predict, start, wanted, steps)
            if not tried:
                raise Incomplete("the time budget ended before the first step")
            sure = probabilities(context.classifier.predict(images))[wanted, wanted] >= SURE
            yield Metric(f"robustness.fooling.{name}", float(sure.mean()))
            yield Metric(
                f"robustness.fooling.{name}.per_class",
                [{"class": int(k), "fooled": bool(s)} for k, s in zip(wanted, sure, strict=True)],
            )
            if tried < steps and not sure.all():
                yield Notice(f"Fooling from {name} stopped after {tried} steps (time budget).")
            if sure.any():
                rows.append(images[sure][:8])
        yield Metric("robustness.fooling.steps", steps)
        if rows:
            title = f"Images the model gives a class {SURE:.0%}"
            yield Figure("fooling", title, sheet(rows), from_samples=False)


def probabilities(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Class probabilities (N, K): scores that are probabilities or their logs as they are.

    Anything else goes through a softmax.
    """
    values = scores.astype(np.float64)
    if (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-3):
        return values
    if (values <= 0).all() and np.allclose(np.exp(values).sum(axis=1), 1, atol=1e-3):
        return np.exp(values)
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    whole: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return whole


def _climb(
    context: BehaviourContext,
    predict: Predict,
    start: NDArray[np.float32],
    wanted: NDArray[np.int64],
    steps: int,
) -> tuple[NDArray[np.float32], int]:
    """Gradient steps of shrinking size inside 0..1; images and the steps taken."""
    import torch

    from auditor.attacks.interface import ascent, gradient
    from auditor.attacks.losses import cross_entropy

    images = torch.from_numpy(start).to(context.device)
    targets = torch.from_numpy(wanted).to(context.device)
    best, least = images.clone(), torch.full((len(images),), float("inf"), device=images.device)
    step = 0
    for step in range(1, steps + 1):
        if context.budget.spent:
            return best.cpu().numpy(), step - 1
        losses: list[Tensor] = []

        def loss(x: Tensor, losses: list[Tensor] = losses) -> Tensor:
            value = cross_entropy(predict(x), targets)
            losses.append(value.detach())
            return value

        grad = gradient(loss, images)
        better = losses[0] < least
        least = torch.where(better, losses[0], least)
        best = torch.where(better.reshape(-1, 1, 1, 1), images, best)
        # Aim past 0.99, so that rounding between twin and artifact does not decide.
        if float(least.max()) < 0.002:
            break
        size = 0.05 * (1 - 0.8 * step / steps)
        images = (images - size * ascent(grad, "linf")).clamp(0, 1)
    return best.cpu().numpy(), step


def _outside(context: BehaviourContext) -> Iterator[Outcome]:
    """How sure the artifact is of images that show nothing."""
    shape = context.classifier.image_shape
    rng = np.random.default_rng(context.seed + 1)
    uniform = rng.random((_OUTSIDE, *shape), np.float32)
    normal = np.clip(0.5 + 0.25 * rng.standard_normal((_OUTSIDE, *shape)), 0, 1)
    flat = np.linspace(0, 1, _OUTSIDE, dtype=np.float32).reshape(-1, 1, 1, 1)
    kinds = {
        "uniform": uniform,
        "gaussian": normal.astype(np.float32),
        "flat": np.broadcast_to(flat, uniform.shape).copy(),
    }
    if context.samples is not None and len(context.samples):
        pixels = context.samples.pixels[:_OUTSIDE]
        mixed = pixels.reshape(len(pixels), pixels.shape[1], -1)
        kinds["shuffled"] = rng.permuted(mixed, axis=2).reshape(pixels.shape)
    for name, images in kinds.items():
        sure = probabilities(context.classifier.predict(images)).max(axis=1) >= SURE
        yield Metric(f"robustness.confident.{name}", float(sure.mean()))
