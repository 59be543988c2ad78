"""Processor seconds an audit costs, per model: `python -m benchmarks.fleet.cost MODEL...`

Counts the worker and all its children, so a busy machine does not change the figures; wall time is
printed beside.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import psutil

from auditor.fleet.jobs import Job, audit
from auditor.options import ScanOptions

PROFILES = {"file": ("file", ()), "data-free": ("data-free", ("file", "graph", "data-free"))}


def spent() -> float:
    """Processor seconds of this process and everything below it, ended children included."""
    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def main() -> None:
    """One line a model and profile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    for name, (profile, checks) in PROFILES.items():
        options = ScanOptions(profile=profile, checks=checks, jobs=1, sanitize=False)
        for model in args.models:
            job = Job(1, str(model), str(model.absolute()), model.name, options)
            audit(job)  # starts the zygote
            before, started = spent(), time.monotonic()
            for _ in range(args.repeat):
                done = audit(job)
            cpu = (spent() - before) / args.repeat
            wall = (time.monotonic() - started) / args.repeat
            size = len(done.report)
            print(f"{name:10} {model.name:24} {cpu:.3f} s processor, {wall:.3f} s wall, {size} B")
    me = psutil.Process()
    zygotes = [child.memory_info().rss >> 20 for child in me.children()]
    print(f"worker {me.memory_info().rss >> 20} MiB, zygotes {zygotes} MiB")


if __name__ == "__main__":
    main()
