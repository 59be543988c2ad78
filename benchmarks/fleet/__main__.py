"""Cost of a fleet: throughput, the driver's memory over time, and the second run.

    python -m benchmarks.fleet [--count 1000] [--jobs 2] [--checks file,data-free] [--work DIR]

Builds the corpus, runs ``audit fleet`` twice as a user would, samples the driver's resident memory
(the driver alone, without its workers) twice a second and draws it against the number of models
done (``memory.png`` in DIR). Everything must be accounted for, or the command fails.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.fleet.corpus import build


def run(command: list[str], store: Path, every: float = 0.5) -> dict[str, Any]:
    """Run it to its end; seconds, exit code and (seconds, models done, MiB) samples."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watched = psutil.Process(process.pid)
    samples: list[tuple[float, int, float]] = []
    while process.poll() is None:
        try:
            resident = watched.memory_info().rss / 2**20
        except psutil.Error:
            break
        samples.append((time.monotonic() - started, done_in(store), resident))
        time.sleep(every)
    output = process.communicate()[0]
    return {
        "seconds": time.monotonic() - started,
        "code": process.returncode,
        "samples": samples,
        "totals": json.loads(output),
    }


def done_in(store: Path) -> int:
    """Models with a result so far, read beside the run."""
    if not store.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=0.2) as base:
            text = "SELECT count(*) FROM models WHERE state<>'pending'"
            return int(base.execute(text).fetchone()[0])
    except sqlite3.Error:
        return 0


def plot(samples: list[tuple[float, int, float]], path: Path) -> None:
    """The driver's memory against models done."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3))
    axes.plot([s[1] for s in samples], [s[2] for s in samples], ".", markersize=3)
    axes.set_xlabel("models done")
    axes.set_ylabel("driver, MiB resident")
    axes.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    """Print the figures; 1 when something is not accounted for or a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--profile", default="data-free")
    parser.add_argument("--checks", default="file,graph,data-free")
    parser.add_argument("--work", type=Path, default=Path("fleet-benchmark"))
    parser.add_argument("--cluster")
    args = parser.parse_args()
    models, out = args.work / "models", args.work / "out"
    kinds = build(models, args.count, zoo=args.work / "zoo")
    command = [sys.executable, "cli.py", "fleet", str(models), "--out", str(out), "--json"]
    command += ["--profile", args.profile, "--jobs", str(args.jobs)]
    command += ["--checks", args.checks] if args.checks else []
    command += ["--cluster", args.cluster] if args.cluster else []
    first = run(command, out / "fleet.sqlite")
    second = run(command, out / "fleet.sqlite", every=0.05)
    plot(first["samples"], args.work / "memory.png")
    totals = first["totals"]
    share = second["seconds"] / first["seconds"]
    settled = [s for s in first["samples"] if s[1] >= 0.1 * args.count]
    early, late = settled[: len(settled) // 5], settled[-(len(settled) // 5) :]
    memory = [sum(s[2] for s in part) / max(1, len(part)) for part in (early, late)]
    lines = {
        "corpus": kinds,
        "totals": totals,
        "models per second": round(args.count / first["seconds"], 3),
        "seconds, first run": round(first["seconds"], 1),
        "seconds, second run": round(second["seconds"], 2),
        "second run / first": round(share, 4),
        "audited again in the second": totals["models"] - second["totals"]["from_earlier_runs"],
        "driver MiB, first and last fifth": [round(m, 1) for m in memory],
        "store bytes per model": (out / "fleet.sqlite").stat().st_size // args.count,
    }
    (args.work / "figures.json").write_text(json.dumps(lines, indent=2))
    print(json.dumps(lines, indent=2))
    accounted = totals["models"] == args.count and totals["not_reached"] == totals["lost"] == 0
    return 0 if accounted and share < 0.05 and memory[1] < memory[0] * 1.1 + 5 else 1


if __name__ == "__main__":
    sys.exit(main())
