"""Clean accuracy on the samples given, with the confusion matrix."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from auditor.checks.interface import BehaviourCheck, BehaviourContext, Skipped
from auditor.findings import Metric, Notice, Outcome
from auditor.statistics import wilson

_CHUNK = 500
_MATRIX_CLASSES = 50


class CleanAccuracy(BehaviourCheck):
    """Native accuracy over all given samples, as many as the time allows."""

    name = "accuracy"
    title = "Clean accuracy"
    doc = (
        "Native predictions on the labelled samples: accuracy with a 95 % Wilson interval, recall "
        "per class and the confusion matrix. Only as good as the labels: wrong labels or a wrongly "
        "inferred preprocessing lower it."
    )
    needs = frozenset({"predictions", "samples"})
    order = 10
    weight = 1.0

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield ``accuracy.clean`` and the matrix."""
        samples = context.all_samples or context.samples
        if samples is None:
            raise Skipped("no samples")
        predicted = []
        done = 0
        while done < len(samples) and not (done and context.budget.spent):
            predicted.append(context.classifier.labels(samples.pixels[done : done + _CHUNK]))
            done = min(done + _CHUNK, len(samples))
        if done < len(samples):
            yield Notice(f"Clean accuracy covers {done} of {len(samples)} samples (time budget).")
        labels = samples.labels[:done]
        right = np.concatenate(predicted) == labels
        interval = wilson(int(right.sum()), done)
        yield Metric("accuracy.clean", float(right.mean()))
        yield Metric("accuracy.low", interval.low)
        yield Metric("accuracy.high", interval.high)
        yield Metric("accuracy.samples", done)
        classes = context.classifier.classes
        confusion = np.zeros((classes, classes), dtype=int)
        np.add.at(confusion, (labels, np.concatenate(predicted)), 1)
        if classes <= _MATRIX_CLASSES:
            yield Metric("confusion", confusion.tolist())
        counts = confusion.sum(axis=1)
        yield Metric(
            "per_class",
            [
                {"class": k, "samples": int(n), "recall": float(confusion[k, k] / n)}
                for k, n in enumerate(counts)
                if n
            ],
        )
