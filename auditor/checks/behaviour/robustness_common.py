"""What the robustness checks share: epsilon grids, sample planning, the native re-check.

torch is imported inside functions: check modules are also loaded by the command line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from auditor.checks.behaviour.pictures import Picture, sheet
from auditor.checks.interface import BehaviourContext, Incomplete, Skipped
from auditor.findings import Metric, Notice
from auditor.samples.interface import Images
from auditor.statistics import wilson

if TYPE_CHECKING:
    from auditor.attacks.interface import Attack, AttackResult, Predict

GRID = (0.01, 0.03, 0.1, 0.2, 0.3)
L2_GRID = (0.25, 0.5, 1.0, 1.5, 2.0)
LADDER = (10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10000)
"""Sample counts a check may choose: steps, so that small changes of speed change nothing."""


def epsilons(context: BehaviourContext, default: Sequence[float] = GRID) -> tuple[float, ...]:
    """The grid, ascending, in 0..1 image units; option ``robustness.epsilons`` overrides it.

    In L2 it is the length of the change over all pixels, and `default` does not apply.
    """
    given = context.options.get("robustness.epsilons")
    if norm(context) == "l2":
        wide: Sequence[float] = L2_GRID if given is None else [float(e) for e in given]
        return tuple(sorted({float(e) for e in wide if float(e) > 0}))
    values = default if given is None else [float(e) for e in given]
    return tuple(sorted({float(e) for e in values if 0 < float(e) <= 1}))


def norm(context: BehaviourContext) -> str:
    """Option ``robustness.norm``: ``linf`` (the default) or ``l2``."""
    return str(context.options.get("robustness.norm", "linf"))


def prefix(name: str, context: BehaviourContext) -> str:
    """What an attack's metrics begin with: the check's `name`, with ``.l2`` in that norm."""
    return name if norm(context) == "linf" else f"{name}.{norm(context)}"


def few_epsilons(context: BehaviourContext) -> tuple[float, ...]:
    """The epsilons of expensive checks: 0.1 for grey images, 0.03 (8/255) for colour, L2 1.0.

    Option ``robustness.epsilon`` overrides it: a number or several.
    """
    given = context.options.get("robustness.epsilon")
    if given is not None:
        several = given if isinstance(given, list | tuple) else [given]
        return tuple(sorted({float(e) for e in several}))
    if norm(context) == "l2":
        return (1.0,)
    return (0.1,) if context.classifier.image_shape[0] == 1 else (0.03,)


def whole_number(context: BehaviourContext, name: str, default: int) -> int:
    """Option ``robustness.<name>`` as a whole number."""
    return int(context.options.get(f"robustness.{name}", default))


def tag(value: float) -> str:
    """Epsilon as it stands in metric names: ``0.1``, ``0.03137``."""
    return f"{value:.4g}"


def given_samples(context: BehaviourContext) -> Images:
    """The samples; raises `Skipped` when there are none."""
    if context.samples is None or not len(context.samples):
        raise Skipped("needs labelled samples (--data)")
    return context.samples


def twin_function(context: BehaviourContext) -> Predict:
    """Logits through the twin, from images (N, C, H, W) in 0..1."""
    classifier = context.classifier
    if not classifier.has_twin:
        raise Skipped("needs gradients (a differentiable twin)")
    return lambda images: classifier.twin_logits(images)


def native_function(context: BehaviourContext) -> Predict:
    """Scores of the native runtime as a torch function without gradients."""
    from auditor.attacks.interface import from_numpy

    return from_numpy(context.classifier.predict)


def gradient_seconds(context: BehaviourContext, samples: Images) -> float:
    """Measured seconds of one gradient pass for one image."""
    from auditor.attacks.interface import gradient
    from auditor.attacks.losses import cross_entropy

    predict = twin_function(context)
    part = samples.take(slice(0, 32))
    images, labels = tensors(context, part)

    def once() -> None:
        gradient(lambda x: cross_entropy(predict(x), labels), images)

    return _seconds(once) / len(part)


def predict_seconds(context: BehaviourContext, samples: Images) -> float:
    """Measured seconds of one native prediction for one image."""
    part = samples.take(slice(0, 32))
    return _seconds(lambda: context.classifier.predict(part.pixels)) / len(part)


def _seconds(call: Callable[[], Any]) -> float:
    """The faster of two calls, one where it is slow: the first also warms up."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
        if times[0] > 1.0:
            break
    return max(min(times), 1e-7)


def affordable(
    context: BehaviourContext, samples: Images, seconds_each: float, share: float = 0.75
) -> Images:
    """As many of `samples` as `share` of the time left pays for, at least 10 (or all)."""
    possible = int(share * context.budget.left / seconds_each)
    if possible >= len(samples):
        return samples
    return samples.take(slice(0, max((n for n in LADDER if n <= possible), default=LADDER[0])))


def left_out(what: str, used: Images, samples: Images) -> list[Notice]:
    """The notice that fewer samples than given were used, or nothing."""
    if len(used) == len(samples):
        return []
    return [Notice(f"{what} covers {len(used)} of {len(samples)} samples (time budget).")]


def tensors(context: BehaviourContext, samples: Images) -> tuple[Any, Any]:
    """Pixels and labels as torch tensors on the context's device."""
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(samples.pixels)).to(context.device)
    return pixels, torch.from_numpy(np.asarray(samples.labels)).to(context.device)


def batch_size(samples: Images) -> int:
    """Images a batch so that a large network's activations stay in memory."""
    values = int(np.prod(samples.pixels.shape[1:]))
    return max(8, min(256, 2_000_000 // values))


@dataclass(frozen=True, slots=True)
class Attacked:
    """`pixels` (N, C, H, W) after the attack; `right` bool (N,): the artifact itself still is."""

    pixels: NDArray[np.float32]
    right: NDArray[np.bool_]
    complete: bool


def attacked(
    context: BehaviourContext, attack: Attack, predict: Predict, samples: Images
) -> Attacked:
    """Run `attack` and judge it on the native runtime: only what fools the artifact counts."""
    images, labels = tensors(context, samples)
    result = attack(
        predict,
        images,
        labels,
        seed=context.seed,
        batch=batch_size(samples),
        stop=lambda: context.budget.spent,
    )
    return judged(context, result, samples)


class Standing:
    """One attack at ascending epsilons: a sample broken at one stays broken at larger ones."""

    def __init__(self, samples: Images) -> None:
        self.samples = samples
        self.right: NDArray[np.bool_] = np.ones(len(samples), dtype=bool)
        self.rows: list[dict[str, float | int]] = []
        self.complete = True

    def extend(self, value: float, attempt: Callable[[float, Images], Attacked]) -> None:
        """`attempt` epsilon `value` on what still stands and add a row to the curve."""
        index = np.flatnonzero(self.right)
        if len(index):
            outcome = attempt(value, self.samples.take(index))
            self.right[index] = outcome.right
            self.complete = self.complete and outcome.complete
        self.rows.append(accuracy_row(value, self.right))


def judged(context: BehaviourContext, result: AttackResult, samples: Images) -> Attacked:
    """The native verdict on an attack's images."""
    pixels = np.ascontiguousarray(result.images.detach().cpu().numpy())
    right = context.classifier.predict(pixels).argmax(axis=1) == samples.labels
    return Attacked(pixels, right, result.complete)


def accuracy_row(value: float, right: NDArray[np.bool_]) -> dict[str, float | int]:
    """One line of a curve: epsilon, n, accuracy and its 95 % Wilson interval."""
    interval = wilson(int(right.sum()), len(right))
    return {
        "epsilon": value,
        "n": len(right),
        "accuracy": float(right.mean()),
        "low": interval.low,
        "high": interval.high,
    }


def by_class(samples: Images, right: NDArray[np.bool_]) -> list[dict[str, float | int]]:
    """Accuracy per label, with its Wilson interval."""
    rows: list[dict[str, float | int]] = []
    for label in np.unique(samples.labels):
        mine = right[samples.labels == label]
        interval = wilson(int(mine.sum()), len(mine))
        rows.append(
            {
                "class": int(label),
                "n": len(mine),
                "accuracy": float(mine.mean()),
                "low": interval.low,
                "high": interval.high,
            }
        )
    return rows


def metrics(prefix: str, rows: Sequence[dict[str, float | int]]) -> list[Metric]:
    """``prefix@epsilon`` for each row, ``prefix.n`` and the curve ``prefix.curve``."""
    scalars = [Metric(f"{prefix}@{tag(float(r['epsilon']))}", r["accuracy"]) for r in rows]
    return [*scalars, Metric(f"{prefix}.n", rows[0]["n"]), Metric(f"{prefix}.curve", list(rows))]


def need_time(context: BehaviourContext) -> None:
    """Raise `Incomplete` when the budget is gone before anything could be measured."""
    if context.budget.spent:
        raise Incomplete("no time left in the budget")


def example_picture(
    clean: NDArray[np.float32], changed: NDArray[np.float32], limit: int = 6
) -> Picture:
    """Three rows: clean, adversarial, and their difference amplified to fill 0..1 around grey."""
    clean, changed = clean[:limit], changed[:limit]
    change = changed - clean
    largest = max(float(np.abs(change).max()), 1e-9)
    return sheet([clean, changed, (0.5 + change / (2 * largest)).astype(np.float32)])
