"""Static scanners side by side: what each finds, what it wrongly accuses, how long it takes.

    python -m benchmarks.scanners --hostile ../shared/fixtures --benign ../shared/models --peers BIN

Both folders are searched for .onnx and .pt files; ``m_*`` in `--hostile` are hostile, ``x_*`` are
left out, the rest is benign. BIN is the bin folder of an environment with ``pip install modelaudit
modelscan onnx`` (kept out of ours: they pin other versions). A scanner accuses a file when its exit
code is 1; an error (2 or more, such as an unreadable or unsupported file) is neither.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = {".onnx", ".pt"}


@dataclass(frozen=True)
class Row:
    """One scanner's score."""

    name: str
    found: int
    hostile: int
    alarms: int
    benign: int
    errors: int
    seconds: float


def models(folders: Sequence[Path]) -> list[Path]:
    """Model files below the folders, in a fixed order."""
    return sorted(p for f in folders for p in f.rglob("*") if p.suffix in SUFFIXES)


def commands(peers: Path | None) -> dict[str, list[str]]:
    """Each scanner's command, the file to be appended."""
    ours = Path(sys.executable).parent / "audit"
    found = {"audit": [str(ours), "scan", "--profile", "file", "--fail-on", "medium", "-q"]}
    if peers is not None and (peers / "modelaudit").exists():
        found["modelaudit"] = [str(peers / "modelaudit"), "scan", "--quiet", "--no-cache"]
    if peers is not None and (peers / "modelscan").exists():
        found["modelscan"] = [str(peers / "modelscan"), "-p"]
    return found


def accuses(command: list[str], model: Path, out: Path) -> int:
    """The scanner's exit code for one file; 2 when it takes longer than two minutes."""
    extra = ["--out", str(out)] if command[0].endswith("audit") and "--profile" in command else []
    quiet = {**os.environ, "PROMPTFOO_DISABLE_TELEMETRY": "1", "NO_ANALYTICS": "1"}
    try:
        done = subprocess.run(
            [*command, str(model), *extra], capture_output=True, timeout=120, check=False, env=quiet
        )
    except subprocess.TimeoutExpired:
        return 2
    return done.returncode


def measure(name: str, command: list[str], hostile: list[Path], benign: list[Path]) -> Row:
    """Run one scanner over both sets."""
    out = Path(tempfile.mkdtemp(prefix="audit-benchmark-"))
    started = time.monotonic()
    bad = [accuses(command, model, out) for model in hostile]
    good = [accuses(command, model, out) for model in benign]
    return Row(
        name,
        bad.count(1),
        len(bad),
        good.count(1),
        len(good),
        sum(code > 1 for code in (*bad, *good)),
        (time.monotonic() - started) / max(1, len(bad) + len(good)),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hostile", type=Path, action="append", required=True)
    parser.add_argument("--benign", type=Path, action="append", default=[])
    parser.add_argument("--peers", type=Path)
    options = parser.parse_args()
    every = models(options.hostile)
    hostile = [m for m in every if m.name.startswith("m_")]
    benign = [m for m in every if not m.name.startswith(("m_", "x_"))] + models(options.benign)
    print("| scanner | hostile found | benign accused | errors | seconds per file |")
    print("|---|---|---|---|---|")
    for name, command in commands(options.peers).items():
        row = measure(name, command, hostile, benign)
        print(
            f"| {row.name} | {row.found} of {row.hostile} | {row.alarms} of {row.benign} "
            f"| {row.errors} | {row.seconds:.1f} |"
        )


if __name__ == "__main__":
    main()
