"""Every repair method alone, on models with known triggers: a table per attack and method.

    python -m benchmarks.sanitize_methods DIR [--data-root DIR] [--part test] [--archs A,B]
        [--seconds S] [--limit N]

Uses the population of `benchmarks.sanitize_population` (built into DIR where missing). Each model
is audited once, in this process (they are our own), with 500 clean samples; then every method
repairs it alone, with the triggers the audit recovered, within ``--seconds``. Shown is what the
attacker's own trigger still does and the loss of accuracy on test images nobody saw; a method
without a repair leaves both as they were. Results are kept in DIR, one JSON a model.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor import requests, stages
from auditor.checks.interface import Budget
from auditor.classifier import Classifier
from auditor.manifest import Manifest
from auditor.options import ScanOptions
from auditor.samples.interface import Images
from auditor.sanitize.chooser import judged
from auditor.sanitize.interface import Repair, RepairContext
from auditor.sanitize.judge import Judge
from auditor.sanitize.measure import twin_labels
from benchmarks.sanitize import attacked, earlier, given_and_rest
from benchmarks.sanitize_population import Case, build, cases, manifest_of

KEPT = "methods.result.json"
CHECKS = ["accuracy", "probe", "inversion"]


def measure(case: Case, folder: Path, root: Path | None, seconds: float) -> dict[str, Any]:
    """All methods on one model (or what an earlier run found)."""
    kept = folder / case.name / KEPT
    row = earlier(kept)
    if row is not None:
        return row
    from auditor.child import behave
    from auditor.child.repair import context_of, sanitizers

    manifest = manifest_of(case, folder)
    assert manifest is not None
    model = folder / case.name / f"model.{case.format}"
    samples, rest = given_and_rest(manifest, root)
    params, arrays = stages.behave_request(
        model, CHECKS, samples, None, ScanOptions(data=samples), 60.0
    )
    behave.run(params, arrays, lambda name, content: None)
    context = context_of(
        behave.STATE["session"],
        {**params, "seconds": seconds, "max_accuracy_drop": 0.02, "path": str(model)},
    )
    truth = Truth(context.classifier, manifest, rest)
    row = {"case": case.name, "attack": case.attack, "before": truth.of(None), "methods": {}}
    for method in sorted(sanitizers("auto"), key=lambda m: m.order):
        started = time.monotonic()
        repair = method.repair(replace(context, budget=Budget(seconds), memory={}))
        found: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1), "after": None}
        if repair is not None:
            found["acceptable"] = judged(context, repair, Judge(context)).acceptable
            found["after"] = truth.of(repair, context)
        row["methods"][method.name] = found
    kept.write_text(json.dumps(row, indent=1), encoding="utf-8")
    return row


class Truth:
    """Accuracy and ASR of the attacker's own trigger on images no method saw."""

    def __init__(self, classifier: Classifier, manifest: Manifest, rest: Images) -> None:
        self.classifier, self.rest = classifier, rest
        self.stamped, self.wanted = attacked(manifest, rest)

    def of(self, repair: Repair | None, context: RepairContext | None = None) -> dict[str, float]:
        """Of the original, or of what `repair` makes of it."""
        import torch

        classifier, changed = self.classifier, None
        if repair is not None and repair.bounds:
            from auditor.sanitize.activation_bounds import bounded_twin

            assert context is not None
            assert context.path is not None
            twin = bounded_twin(context.path, dict(repair.bounds))
            classifier = Classifier(
                classifier.native, classifier.preprocessing, classifier.image_shape, twin
            )
        elif repair is not None:
            changed = {n: torch.from_numpy(v.copy()) for n, v in repair.changes.items()}

        def labels(pixels: NDArray[np.float32]) -> NDArray[np.int64]:
            return twin_labels(classifier, pixels, changed)

        return {
            "accuracy": float((labels(self.rest.pixels) == self.rest.labels).mean()),
            "asr": float((labels(self.stamped.pixels) == self.wanted).mean()),
        }


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown: ASR after each method and points of accuracy lost, per attack and in the mean."""
    methods = list(rows[0]["methods"])
    families: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        families[row["attack"]].append(row)
    families["**mean**"] = list(rows)
    lines = [
        "| attack | models | ASR before | " + " | ".join(methods) + " |",
        "|---|---|---|" + "---|" * len(methods),
    ]
    for attack, members in families.items():
        before = mean(row["before"]["asr"] for row in members)
        cells = [cell([_after(row, method) for row in members]) for method in methods]
        lines.append(f"| {attack} | {len(members)} | {before:.1%} | " + " | ".join(cells) + " |")
    return lines


def _after(row: dict[str, Any], method: str) -> tuple[float, float]:
    after = row["methods"][method]["after"] or row["before"]
    return after["asr"], 100 * (row["before"]["accuracy"] - after["accuracy"])


def cell(values: Sequence[tuple[float, float]]) -> str:
    """Mean ASR and mean loss of accuracy in points."""
    asr, lost = (mean(part) for part in zip(*values, strict=True))
    return f"{asr:.1%} ({-lost:+.1f})"


def main(arguments: list[str] | None = None) -> int:
    """Build what is missing, repair, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--part", default="test")
    parser.add_argument(
        "--archs", default="", help="only these, with commas between (default: all)"
    )
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument(
        "--seconds", type=float, default=requests.SANITIZE_SECONDS, help="for each method"
    )
    parser.add_argument("--share", default="0/1", help="worker i of n takes every n-th model: i/n")
    given = parser.parse_args(arguments)
    archs = given.archs.split(",")
    chosen = [c for c in cases() if c.part in given.part.split(",") and c.attack != "clean"]
    chosen = [c for c in chosen if not given.archs or c.arch in archs]
    rows = []
    worker, workers = (int(number) for number in given.share.split("/"))
    for case in chosen[: given.limit][worker::workers]:
        if manifest_of(case, given.folder) is None:
            build(case, given.folder, given.data_root)
        rows.append(measure(case, given.folder, given.data_root, given.seconds))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(*table(rows), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
