"""How much poison `audit data` finds, what it accuses wrongly, and what is left after cleaning.

    python -m benchmarks.data --dataset mnist [--data-root DIR] [--cases clean,badnets,...]
        [--out DIR] [--samples N] [--own-model] [--retrain] [--linear] [--art]

Builds each poisoned set and a model trained on it (`benchmarks.poisoned_sets`; kept in --out and
reused), audits it through the same code as the command, and compares with the truth, which is read
afterwards. --retrain trains again on the cleaned set; --linear audits a quarter, half and all of a
clean set with a network of 400,000 parameters; --art adds ART's ActivationDefence at its defaults
when it can be imported (``pip install --no-deps --target DIR adversarial-robustness-toolbox tqdm``,
DIR on PYTHONPATH).

TPR: share of poisoned samples flagged; FPR: share of the others (cover samples left out). CPU time
is that of this process and its children, so it does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

from auditor.data_audit import DataAudit, audit_data
from auditor.manifest import MANIFEST_SUFFIX
from auditor.options import ScanOptions
from auditor.samples.cleaned import write_clean
from benchmarks.poisoned_sets import ensure

DEFAULT = "clean,badnets,patch-1,blended,noise,blur,warp,sig,clean-label,flip-5,flip-10,flip-20"


def cpu_seconds() -> float:
    """Processor seconds of this process and its finished children."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def peak_gib() -> float:
    """Largest resident size of this process or any finished child so far."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 2**20


def measure(
    folder: Path, name: str, own_model: bool, jobs: int
) -> tuple[dict[str, Any], DataAudit]:
    """One audited set as a row."""
    before, started = cpu_seconds(), time.monotonic()
    model = None if own_model else folder / f"{name}.onnx"
    audit = audit_data(folder / f"{name}.train.npz", model, ScanOptions(split="train", jobs=jobs))
    row: dict[str, Any] = {
        "case": name,
        "samples": len(audit.data),
        "verdict": audit.report.verdict,
        "flagged": float(audit.found.flagged.mean()),
        "poisoned classes": sorted(audit.study.confirmed),
        "cpu seconds": round(cpu_seconds() - before, 1),
        "wall seconds": round(time.monotonic() - started, 1),
        "peak GiB": round(peak_gib(), 2),
    }
    with np.load(folder / f"{name}.truth.npz") as truth:
        bad = np.zeros(len(audit.data), bool)
        bad[truth["poisoned"]] = True
        neutral = np.zeros(len(audit.data), bool)
        neutral[truth["cover"]] = True
    row |= rates(audit.found.flagged, bad, neutral)
    row |= json.loads((folder / f"{name}.figures.json").read_text())
    return row, audit


def rates(flagged: Any, bad: Any, neutral: Any) -> dict[str, float]:
    """TPR, FPR and precision; nothing for what has no samples."""
    good = ~bad & ~neutral
    found: dict[str, float] = {"FPR": float(flagged[good].mean())}
    if bad.any():
        found["TPR"] = float(flagged[bad].mean())
        found["left"] = int((bad & ~flagged).sum())
        if flagged.any():
            found["precision"] = float(bad[flagged].mean())
    return found


def after_cleaning(folder: Path, name: str, audit: DataAudit, root: Path | None) -> dict[str, Any]:
    """Clean accuracy and ASR of the same network trained on the cleaned set."""
    import shutil
    import tempfile

    from zoo.retrain import retrain

    scratch = Path(tempfile.mkdtemp(prefix="audit-data-"))
    try:
        cleaned = write_clean(audit.data, ~audit.found.flagged, scratch / "clean")
        got = retrain(folder / f"{name}{MANIFEST_SUFFIX}", cleaned, root=root, device="cpu")
    finally:
        shutil.rmtree(scratch)
    return {"accuracy after": got.accuracy_after, "ASR after": list(got.asr_after)}


def art_rates(audit: DataAudit, bad: Any) -> dict[str, Any] | None:
    """ART's `ActivationDefence.detect_poison()` at its defaults, given the same activations.

    None without ART.
    """
    try:
        from art.defences.detector.poison import ActivationDefence
    except ImportError:
        return None

    class Given(ActivationDefence):  # type: ignore[misc]
        """Its activations are those at hand; everything after them is ART's."""

        def _get_activations(self, x_train: Any = None) -> Any:
            return audit.study.activations

    count = int(audit.study.labels.max()) + 1
    defence = Given(
        types.SimpleNamespace(nb_classes=count),
        audit.data.pixels,
        np.eye(count)[audit.study.labels],
    )
    _, is_clean = defence.detect_poison()
    flagged = np.asarray(is_clean) == 0
    return {"art flagged": float(flagged.mean())} | {
        f"art {k}": v for k, v in rates(flagged, bad, np.zeros_like(bad)).items()
    }


def show(row: dict[str, Any]) -> str:
    """One row as a line."""
    shown = []
    for key, value in row.items():
        if isinstance(value, float):
            value = round(value, 4)
        elif isinstance(value, list):
            value = [round(v, 4) if isinstance(v, float) else v for v in value]
        shown.append(f"{key} {value}")
    return "; ".join(shown)


def linear(folder: Path, name: str, jobs: int) -> list[dict[str, Any]]:
    """Processor seconds at a quarter, half and all of the set `name`, with its model."""
    rows = []
    with np.load(folder / f"{name}.train.npz") as archive:
        x, y = archive["x"], archive["y"]
    for part in (4, 2, 1):
        path = folder / f".part{part}.npz"
        np.savez(path, x=x[: len(x) // part], y=y[: len(y) // part])
        before, started = cpu_seconds(), time.monotonic()
        audit = audit_data(path, folder / f"{name}.onnx", ScanOptions(split="train", jobs=jobs))
        used = cpu_seconds() - before
        rows.append(
            {
                "case": f"{name} (part)",
                "samples": len(audit.data),
                "cpu seconds": round(used, 1),
                "wall seconds": round(time.monotonic() - started, 1),
                "ms per sample": round(1000 * used / len(audit.data), 3),
                "peak GiB": round(peak_gib(), 2),
            }
        )
        path.unlink()
    return rows


def main() -> None:
    """Print one line a case; ``--json`` writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--cases", default=DEFAULT)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--target", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--own-model", action="store_true")
    parser.add_argument("--retrain", action="store_true")
    parser.add_argument("--linear", action="store_true")
    parser.add_argument("--art", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    folder = given.out or Path("zoo-out") / f"data-{given.dataset}"
    rows: list[dict[str, Any]] = []
    for name in given.cases.split(","):
        ensure(
            name, given.dataset, folder, root=given.data_root, target=given.target,
            samples=given.samples, epochs=given.epochs,
        )  # fmt: skip
        row, audit = measure(folder, name, given.own_model, given.jobs)
        if given.art:
            with np.load(folder / f"{name}.truth.npz") as truth:
                bad = np.zeros(len(audit.data), bool)
                bad[truth["poisoned"]] = True
            row |= art_rates(audit, bad) or {"art": "not installed"}
        if given.retrain:
            row |= after_cleaning(folder, name, audit, given.data_root)
        rows.append(row)
        print(show(row), flush=True)
    if given.linear:
        ensure("clean-wide", given.dataset, folder, root=given.data_root, samples=given.samples)
        for row in linear(folder, "clean-wide", given.jobs):
            rows.append(row)
            print(show(row), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
