"""Files that others made: does each open, agree with its runtime, and reach its accuracy?

    AUDITOR_DATA=DATA python -m benchmarks.published FOLDER [--data mnist --data cifar10 ...]

Every `.onnx`, `.pt`, `.pth` and `.pt2` below FOLDER goes through `audit inspect FILE` and, with
each data set until one is answered well, `audit scan FILE --data SET --checks accuracy`:
preprocessing is inferred, nothing about a file is given.
`parity` is what the user is told by `inspect`; `gradient` the largest error of the twin's input
gradient against finite differences in float64 on 20 random coordinates.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from auditor.artifacts.open import open_artifact
from tests.twin.finite_differences import gradient_error

SUFFIXES = {".onnx", ".pt", ".pth", ".pt2"}


@dataclass
class Row:
    """One file, in words; empty where there is nothing to say."""

    file: str
    parity: str = ""
    gradient: str = ""
    data: str = ""
    preprocessing: str = ""
    accuracy: str = ""
    runner_up: str = ""
    said: str = ""


def audit(*arguments: str) -> Any:
    """What the command prints as JSON; its sentence on stderr where it gives none."""
    command = [str(Path(sys.executable).with_name("audit")), *arguments]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        return {"error": {"message": " ".join(done.stderr.split())}}


def scan(file: Path, data: str, count: int) -> Any:
    """The report of the accuracy check alone."""
    options = ["--data", data, "--checks", "accuracy", "--max-samples", str(count)]
    return audit("scan", str(file), *options, "--no-sanitize", "--json", "--fail-on", "never")


def accuracy(report: Any) -> float:
    """Clean accuracy, or -1 where the data do not fit."""
    samples = report.get("samples") or {}
    return float(samples.get("clean_accuracy") or -1)


def gradient(file: Path) -> str:
    """Against finite differences, on noise that is half black so that small networks answer."""
    twin: Any = open_artifact(file).open_twin()
    shape = getattr(twin, "image_shape", None) or twin.sample_shape
    for seed in range(8):
        image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed))
        image = image * (image > 0.5)
        try:
            return f"{gradient_error(twin, image).worst:.1e}"
        except AssertionError:  # every unit silent on this image
            continue
    return "no gradient on noise"


def row(file: Path, folder: Path, sets: list[str], count: int) -> Row:
    """Everything about one file."""
    found = Row(str(file.relative_to(folder)))
    seen = audit("inspect", str(file), "--json")
    loaded = seen.get("loaded", {})
    if not loaded.get("classifier"):
        found.said = str(loaded.get("reason") or seen.get("error", {}).get("message", ""))
        return found
    if loaded.get("twin"):
        found.parity = f"{loaded['twin']['max_relative_difference']:.1e}"
        found.gradient = gradient(file)
    found.said = str(loaded.get("reason", ""))
    best: Any = {}
    for name in sets:
        report = scan(file, name, count)
        best = max(best, report, key=accuracy)
        if accuracy(best) > 0.5:  # nothing else can be what it was trained on
            break
    if accuracy(best) > 0.2:
        samples = best["samples"]
        chosen = samples["preprocessing"]
        found.data = f"{samples['source']}, {samples['count']:,}"
        found.preprocessing = chosen["chosen"]
        found.accuracy = f"{accuracy(best):.4f}"
        found.runner_up = f"{chosen.get('runner_up')}: {chosen.get('runner_up_accuracy', 0):.3f}"
    return found


def main() -> None:
    """Print a Markdown table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", action="append", default=[])
    parser.add_argument("--max-samples", type=int, default=10_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = list(Row("").__dict__)
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for file in sorted(p for p in options.folder.rglob("*") if p.suffix in SUFFIXES):
        cells = row(file, options.folder, options.data, options.max_samples).__dict__.values()
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
