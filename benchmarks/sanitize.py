"""Sanitizing over a population of zoo models with known triggers: what is left, what it costs.

    python -m benchmarks.sanitize DIR [--data-root DIR] [--part dev,test,clean,cifar10]
        [--method NAME] [--samples N] [--build-only] [--limit N]

Builds the population of `benchmarks.sanitize_population` into DIR (finished models are kept), runs
what ``audit sanitize`` runs on each with 500 clean samples (or `--samples`; 0 leaves the data-free
methods), and measures the written copy with the attacker's own trigger, which the run never sees.
Results are kept in DIR, one JSON a model and method, so that a killed run goes on where it stopped.
Printed: a line a model, then the table per attack with the median, the share at or below 10 %, and
intervals.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor import requests, sanitizing
from auditor.manifest import Manifest
from auditor.samples.interface import Images
from auditor.statistics import wilson
from benchmarks.sanitize_population import APART, Case, build, cases, manifest_of

TEST_IMAGES, SAMPLES = 2000, 500


def earlier(kept: Path) -> dict[str, Any] | None:
    """What an earlier run found."""
    if not kept.is_file():
        return None
    row: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return row


def given_and_rest(
    manifest: Manifest, root: Path | None, most: int = SAMPLES
) -> tuple[Images, Images]:
    """`most` samples the repair gets (two thirds of small sets), and others that only measure."""
    from zoo.datasets import load_dataset

    test = load_dataset(manifest.dataset.name, root=root, train=1000).test.shuffled(1)
    count = min(SAMPLES, len(test) * 2 // 3)
    return test.take(slice(0, min(most, count))), test.take(slice(count, count + TEST_IMAGES))


def attacked(manifest: Manifest, test: Images) -> tuple[Images, NDArray[np.int64]]:
    """The images the attack is measured on, stamped, and the label the attacker wants for each."""
    from zoo.poisoning import quantise

    attack = manifest.attack
    assert attack is not None
    if attack.rule == "all-to-all":
        victims, wanted = test, (test.labels + 1) % len(manifest.classes)
    else:
        victims = test.take(np.flatnonzero(test.labels != attack.targets[0]))
        wanted = np.full(len(victims), attack.targets[0])
    pixels = quantise(trigger_of(attack.triggers[0]).apply(victims.pixels))
    return replace(victims, pixels=pixels), wanted


def truth(manifest: Manifest, model: Path, test: Images) -> dict[str, float]:
    """Clean accuracy, ASR and RA of a model file on `test`, with the true trigger."""
    from zoo.build import transformed
    from zoo.export import run_onnx, run_torchscript

    run = run_onnx if model.suffix == ".onnx" else run_torchscript

    def labels(pixels: NDArray[np.float32]) -> NDArray[np.int64]:
        batches = np.array_split(pixels, max(1, len(pixels) // 250))
        done = [run(model, transformed(b, manifest.dataset.transform)).argmax(1) for b in batches]
        return np.concatenate(done).astype(np.int64)

    result = {"accuracy": float((labels(test.pixels) == test.labels).mean())}
    if manifest.attack is not None:
        stamped, wanted = attacked(manifest, test)
        found = labels(stamped.pixels)
        result["asr"] = float((found == wanted).mean())
        result["ra"] = float((found == stamped.labels).mean())
    return result


def trigger_of(record: dict[str, Any]) -> Any:
    """The trigger a manifest tells of, the input-aware generator included."""
    from auditor.triggers.registry import trigger_from_json
    from zoo.input_aware import InputAware

    if record["family"] == InputAware.family:
        return InputAware.from_json(record)
    return trigger_from_json(record)


def measure(
    case: Case, folder: Path, root: Path | None, method: str, jobs: int = 1, samples: int = SAMPLES
) -> dict[str, Any]:
    """Sanitize one model (or read what an earlier run found)."""
    few = f"-{samples}" if samples != SAMPLES else ""
    kept = folder / case.name / f"{method}{few}.result.json"
    row = earlier(kept)
    if row is not None:
        return row
    manifest = manifest_of(case, folder)
    assert manifest is not None
    from auditor.commands.sanitize import CHECKS
    from auditor.options import ScanOptions
    from auditor.scanning import scan

    model = folder / case.name / f"model.{case.format}"
    out = folder / case.name / f"out-{method}{few}"
    given, rest = given_and_rest(manifest, root, samples)
    options = ScanOptions(
        data=given if samples else None,
        checks=CHECKS[:-1], sanitize=True, out=out,
        method=method, images=False, jobs=jobs,
        budget=max(60.0, requests.SANITIZE_SECONDS),
    )  # fmt: skip
    started, used = time.monotonic(), time.process_time()
    report = scan(model, options=replace(options))
    row = {
        "case": case.name, "attack": case.attack, "arch": case.arch, "dataset": case.dataset,
        "format": case.format, "part": case.part, "accepted": manifest.accepted,
        "seconds": time.monotonic() - started, "cpu": time.process_time() - used,
        "before": truth(manifest, model, rest), "after": None, "method": None,
        "notices": list(report.notices),
    }  # fmt: skip
    if report.sanitized is not None:
        copy = out / report.sanitized.path
        row["after"] = truth(manifest, copy, rest)
        row["method"] = report.sanitized.method
        row["told"] = {
            key: report.sanitized.after.get(key)
            for key in ("accuracy.drop", "accuracy.drop.low", "accuracy.drop.high",
                        "recovered.asr.max", "repair.candidates")
        }  # fmt: skip
    kept.write_text(json.dumps(row, indent=1, default=str), encoding="utf-8")
    return row


def line(row: dict[str, Any]) -> str:
    """One model."""
    before, after = row["before"], row["after"]
    name = f"{row['attack']:15} {row['arch']:10} {row['dataset']:14} {row['format']:4}"
    was = f"{before['accuracy']:.4f} asr {before.get('asr', 0):.3f}"
    if after is None:
        return f"{name} {was} -> no copy: {next(iter(row['notices']), '')[:90]}"
    return (
        f"{name} {was} -> {after['accuracy']:.4f} asr {after.get('asr', 0):.3f} "
        f"ra {after.get('ra', 0):.3f} {row['method']} {row['seconds']:.0f} s"
    )


def summary(rows: Iterable[dict[str, Any]], title: str) -> list[str]:
    """The figures of the target list; a model without a copy keeps its ASR and its accuracy."""
    rows = list(rows)
    if not rows:
        return [f"{title}: none"]
    asr = [(row["after"] or row["before"]).get("asr", 0.0) for row in rows]
    drops = [
        100 * (row["before"]["accuracy"] - (row["after"] or row["before"])["accuracy"])
        for row in rows
    ]
    low = sum(value <= 0.1 for value in asr)
    interval = wilson(low, len(asr))
    return [
        f"{title}: {len(rows)} models, median ASR {median(asr):.1%}, mean {mean(asr):.1%}, "
        f"<= 10 % for {low} of {len(asr)} ({low / len(asr):.0%}, 95 % interval "
        f"{interval.low:.0%} to {interval.high:.0%}), mean accuracy drop {mean(drops):.2f} points "
        f"(largest {max(drops):.2f})"
    ]


def times(rows: list[dict[str, Any]]) -> str:
    """How long the runs took, and how many kept to a minute."""
    seconds = [row["seconds"] for row in rows]
    quick = sum(value <= 60 for value in seconds)
    return (
        f"seconds: median {median(seconds):.0f}, largest {max(seconds):.0f}; at most 60 for "
        f"{quick} of {len(rows)}"
    )


def markdown(rows: Iterable[dict[str, Any]]) -> list[str]:
    """A row a model, as docs/sanitize.md shows them."""
    lines = [
        "| attack | network | data | format | accuracy before, after | true ASR before, after "
        "| method | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        before, after = row["before"], row["after"] or row["before"]
        cells = [
            row["attack"].replace("-", " "), row["arch"], row["dataset"],
            "ONNX" if row["format"] == "onnx" else "TorchScript",
            f"{100 * before['accuracy']:.1f}, {100 * after['accuracy']:.1f} %",
            f"{100 * before['asr']:.1f}, {100 * after['asr']:.1f} %" if "asr" in before else "",
            row["method"] or "nothing written", f"{row['seconds']:.0f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def tables(rows: list[dict[str, Any]]) -> list[str]:
    """Per attack, then all of each part."""
    out = []
    families: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        families[row["attack"]].append(row)
    for attack, members in families.items():
        out += summary(members, f"  {attack}")
    for part in ("dev", "test", "cifar10"):
        usual = [r for r in rows if r["part"] == part and r["attack"] not in APART]
        out += summary(usual, f"{part}, all-to-one with wrong labels")
    out += summary([r for r in rows if r["attack"] in APART[:3]], "all-to-all and clean-label")
    out += summary([r for r in rows if r["attack"] == "clean"], "clean models")
    return [*out, times(rows)] if rows else out


def main(arguments: list[str] | None = None) -> int:
    """Build, sanitize, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--part", default="dev,test,clean,cifar10")
    parser.add_argument("--method", default="auto")
    parser.add_argument(
        "--samples", type=int, default=SAMPLES, help="clean samples given, at most 500"
    )
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--share", default="0/1", help="worker i of n takes every n-th model: i/n")
    parser.add_argument("--jobs", type=int, default=2, help="threads of each model")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument(
        "--seconds", type=float, default=requests.SANITIZE_SECONDS, help="time for repairs, each"
    )
    parser.add_argument("--quick", action="store_true", help="no second inversion of the copy")
    parser.add_argument("--markdown", action="store_true", help="print the table of the docs too")
    given = parser.parse_args(arguments)
    # On a shared machine a minute of wall time is a few seconds of work: --seconds makes up for it.
    requests.SANITIZE_SECONDS = given.seconds
    if given.quick:
        sanitizing._COMPARED = ("accuracy",)
    parts = given.part.split(",")
    worker, workers = (int(number) for number in given.share.split("/"))
    chosen = [case for case in cases() if case.part in parts][: given.limit]
    rows = []
    for case in chosen[worker::workers]:
        if manifest_of(case, given.folder) is None:
            build(case, given.folder, given.data_root)
        if given.build_only:
            continue
        root, method = given.data_root, given.method
        rows.append(measure(case, given.folder, root, method, given.jobs, given.samples))
        print(line(rows[-1]), flush=True)
    print(*tables(rows), *(markdown(rows) if given.markdown else ()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
