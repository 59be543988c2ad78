"""Random graph and code triggers through the command line: how many does a static scan fail?

    python -m benchmarks.injections CARRIER... --count 60 [--seed 0]

Every CARRIER is a trained ONNX or TorchScript classifier; TorchScript stores no image size, so it
is written ``model.pt@1,28,28``. Each of `count` draws picks a carrier, a style, a target and a
seed, runs ``audit zoo inject`` and then ``audit scan --profile file`` on the result and on an
untouched copy beside it. Prints one row per style: injections failed (exit code 1, with a
``graph.trigger`` or ``code.trigger`` rule) and untouched twins passed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AUDIT = str(Path(sys.executable).parent / "audit")
CODE_STYLES = ("if", "where", "smooth", "relu", "checksum", "exact", "submodule", "loop")
GRAPH_STYLES = ("where", "smooth-gate", "relu", "if-checksum", "function", "exact-vector")
TRIGGERS = ("graph.trigger", "code.trigger")


@dataclass(frozen=True, slots=True)
class Carrier:
    """A trained classifier; `shape` is ``C,H,W`` for TorchScript and empty for ONNX."""

    path: Path
    shape: str

    @property
    def styles(self) -> tuple[str, ...]:
        """What `audit zoo inject` can put into it."""
        return CODE_STYLES if self.shape else GRAPH_STYLES


def carrier(text: str) -> Carrier:
    """``PATH`` or ``PATH@C,H,W``."""
    path, _, shape = text.partition("@")
    return Carrier(Path(path), shape)


def inject(source: Carrier, style: str, out: Path, target: int, seed: int) -> str:
    """Write the injected copy; the reason when the command refuses, else nothing."""
    shape = ["--shape", source.shape] if source.shape else []
    words = ["--style", style, "--target", str(target), "--seed", str(seed), "--out", str(out)]
    command = [AUDIT, "zoo", "inject", str(source.path), *words, *shape]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit {done.returncode}")


def scan(model: Path, out: Path) -> dict[str, Any]:
    """The JSON report of a static scan."""
    command = [AUDIT, "scan", str(model), "--profile", "file", "--json", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    report["code"] = done.returncode
    return report


def accused(report: dict[str, Any]) -> bool:
    """Exit code 1 for the right reason."""
    rules = [str(finding["rule"]) for finding in report.get("findings", [])]
    return report["code"] == 1 and any(rule.startswith(TRIGGERS) for rule in rules)


def main() -> int:
    """0 when every injection failed and every untouched twin did not."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    words.add_argument("carriers", nargs="+", type=carrier)
    words.add_argument("--count", type=int, default=60)
    words.add_argument("--seed", type=int, default=0)
    told = words.parse_args()
    draw = random.Random(told.seed)
    made: Counter[str] = Counter()
    found: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="audit-injections-") as folder:
        for number in range(told.count):
            source = draw.choice(told.carriers)
            style, target = draw.choice(source.styles), draw.randrange(10)
            injected = Path(folder) / f"injected{source.path.suffix}"
            untouched = Path(folder) / f"untouched{source.path.suffix}"
            refused = inject(source, style, injected, target, draw.randrange(1 << 30))
            row = f"{'code' if source.shape else 'graph'} {style}"
            if refused:
                print(f"{number:3} {source.path.name} {row}: not injected: {refused}")
                continue
            shutil.copyfile(source.path, untouched)
            hit = accused(scan(injected, Path(folder) / "out"))
            quiet = scan(untouched, Path(folder) / "out")["code"] == 0
            made[row] += 1
            found[row] += hit
            passed[row] += quiet
            if not (hit and quiet):
                print(f"{number:3} {source.path.name} {row}: found {hit}, twin passes {quiet}")
    print(f"{'style':24} {'failed':>9} {'twins passed':>14}")
    for row in sorted(made):
        print(f"{row:24} {found[row]:>4}/{made[row]:<4} {passed[row]:>8}/{made[row]:<4}")
    total = sum(made.values())
    print(f"{'all':24} {sum(found.values()):>4}/{total:<4} {sum(passed.values()):>8}/{total:<4}")
    return 0 if sum(found.values()) == sum(passed.values()) == total == told.count else 1


if __name__ == "__main__":
    sys.exit(main())
