"""Trigger inversion over a folder of zoo models: who is flagged, how sure, at what cost.

    python benchmarks/inversion.py FOLDER [--data-root DIR] [--limit N] [--json FILE]

Every model with a manifest is scanned in its sandbox with the checks ``data-free`` and
``inversion``. Printed: one line a model, then the share flagged with its 95 % Wilson interval for
clean, adversarially trained and attacked models, and the true positives per attack family. The
truth comes from the manifests and is read after the scan.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from auditor.manifest import MANIFEST_SUFFIX, Manifest, read_manifest
from auditor.options import ScanOptions
from auditor.scanning import scan
from auditor.statistics import wilson

FAMILIES = ("patch", "additive", "warp", "blur")


def measure(manifest: Manifest, model: Path, root: Path | None) -> dict[str, Any]:
    """One scanned model as a row; the truth is added last."""
    options = ScanOptions(
        data=manifest.dataset.name,
        data_root=root,
        checks=("data-free", "inversion"),
        sanitize=False,
    )
    report = scan(model, options=options)
    check = next(c for c in report.checks if c.name == "inversion")
    found = [f for f in report.findings if f.rule == "inversion.trigger"]
    attack = manifest.attack
    return {
        "model": model.name,
        "status": check.status,
        "severity": found[0].severity if found else "-",
        "named": found[0].target_class if found else None,
        "seconds": check.seconds,
        "metrics": dict(check.metrics),
        "kind": manifest.kind,
        "rule": attack.rule if attack else "-",
        "family": str(attack.triggers[0].get("family")) if attack else "-",
        "targets": list(attack.targets) if attack else [],
    }


def line(row: dict[str, Any]) -> str:
    """One model: truth, verdict, honest gaps, seconds."""
    gaps = []
    for family in FAMILIES:
        raw = row["metrics"].get(f"inversion.gap.{family}")
        relative = row["metrics"].get(f"inversion.gap-relative.{family}")
        gaps.append(f"{min(raw, relative):7.2f}" if raw is not None else "      -")
    truth = ",".join(map(str, row["targets"])) or "-"
    return (
        f"{row['model'][:34]:34} {row['kind'][:11]:11} {row['family'][:15]:15} {truth:>5} "
        f"{row['severity']:>8} {row['named'] if row['named'] is not None else '-':>5} "
        f"{' '.join(gaps)} {row['seconds']:6.1f} s"
    )


def share(rows: Iterable[dict[str, Any]], what: str) -> str:
    """How many were flagged (medium or higher), with the interval."""
    flags = [row["severity"] in ("medium", "high", "critical") for row in rows]
    if not flags:
        return f"{what}: none"
    interval = wilson(sum(flags), len(flags))
    return (
        f"{what}: {sum(flags)} of {len(flags)} flagged ({sum(flags) / len(flags):.0%}, "
        f"95 % interval {interval.low:.0%} to {interval.high:.0%})"
    )


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """False and true positives, the right class named, time."""
    attacked = [row for row in rows if row["targets"] or row["rule"] == "all-to-all"]
    out = [
        share([r for r in rows if r["kind"] == "clean"], "clean"),
        share([r for r in rows if r["kind"] == "adversarial"], "adversarially trained, clean"),
        share(attacked, "attacked"),
    ]
    families: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in attacked:
        families[f"{row['rule']} {row['family']}"].append(row)
    out += [share(members, f"  {name}") for name, members in sorted(families.items())]
    named = [row for row in attacked if row["named"] is not None]
    right = sum(row["named"] in row["targets"] for row in named)
    out.append(f"right class named in {right} of {len(named)} flagged attacked models")
    if rows:
        out.append(f"median {median(row['seconds'] for row in rows):.1f} s a model")
    return out


def main(arguments: list[str] | None = None) -> int:
    """Scan, print, and write the rows as JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    rows = []
    for path in sorted(given.folder.glob(f"*{MANIFEST_SUFFIX}"))[: given.limit]:
        manifest = read_manifest(path)
        model = path.with_name(path.name.removesuffix(MANIFEST_SUFFIX) + ".onnx")
        if model.is_file():
            rows.append(measure(manifest, model, given.data_root))
            print(line(rows[-1]), flush=True)
    print(*summary(rows), sep="\n")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
