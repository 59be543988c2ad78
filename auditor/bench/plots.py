"""ROC, reliability and time as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from auditor.bench import figures
from auditor.bench.detectors import Detector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes


def draw(detectors: Sequence[Detector], folder: Path) -> list[Path]:
    """Write what can be drawn of `detectors` into `folder` and return the files."""
    wanted = {
        "roc.png": _roc if _both_kinds(detectors[0]) else None,
        "reliability.png": _reliability if _stated(detectors) else None,
        "times.png": _times,
    }
    return [_save(folder / name, detectors, plot) for name, plot in wanted.items() if plot]


def _both_kinds(detector: Detector) -> bool:
    return bool(detector.truth.any() and not detector.truth.all())


def _stated(detectors: Sequence[Detector]) -> bool:
    return any(d.probabilities is not None and _both_kinds(d) for d in detectors)


def _save(path: Path, detectors: Sequence[Detector], plot: object) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    assert callable(plot)
    plot(axes, detectors)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


def _roc(axes: Axes, detectors: Sequence[Detector]) -> None:
    for d in detectors:
        if not _both_kinds(d):
            continue
        false, true = figures.roc(d.scores, d.truth)
        area = figures.auc(d.scores, d.truth) or 0.0
        axes.step(false, true, where="post", label=f"{d.name}: {area:.3f} ({len(d.rows)} models)")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.set(title="ROC (area)", xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(fontsize=8, loc="lower right")


def _reliability(axes: Axes, detectors: Sequence[Detector]) -> None:
    for d in detectors:
        if d.probabilities is None:
            continue
        rows = figures.reliability(d.probabilities, d.truth)
        axes.plot(
            [r["stated"] for r in rows], [r["observed"] for r in rows], marker="o", label=d.name
        )
        for r in rows:
            axes.annotate(str(r["n"]), (r["stated"], r["observed"]), fontsize=7)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.set(
        title="Reliability at even odds (number of models)",
        xlabel="stated probability",
        ylabel="share backdoored",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.legend(fontsize=8)


def _times(axes: Axes, detectors: Sequence[Detector]) -> None:
    shown = [d for d in detectors if d.seconds.max(initial=0.0) > 0]
    for d in shown:
        seconds = np.sort(d.seconds)
        axes.step(seconds, np.arange(1, len(seconds) + 1) / len(seconds), label=d.name)
    axes.set(
        title="Seconds per model (clock)", xlabel="seconds", ylabel="share of models", xscale="log"
    )
    if shown:
        axes.legend(fontsize=8)
