"""Scan one model of a population as a user would, and only then read what it really is."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.bench.rows import KINDS, Baseline, Row, Truth
from auditor.calibration.judge import CHECKS
from auditor.errors import UsageError
from auditor.manifest import MANIFEST_SUFFIX, ManifestError, manifest_path, read_manifest

if TYPE_CHECKING:
    from auditor.report.model import CheckRecord, Report

RULES = ("inversion.trigger", "inversion.all-to-all", "data-free.margin")
"""Rules of the findings these checks raise."""

AGAINST = {
    "neural-cleanse": "baseline.neural-cleanse",
    "neural-cleanse-full": "baseline.neural-cleanse-full",
    "activation-clustering": "baseline.activation-clustering",
    "mm-bd": "data-free",
}
"""Baselines by name, and the check that runs them."""

BUDGET = 600.0
"""Seconds for the behaviour checks: by steps, not by the clock, so that a loaded machine measures
the same."""


@dataclass(frozen=True, slots=True)
class Job:
    """`samples` 0 is data-free. `name` is the model's path as rows hold it."""

    path: str
    name: str
    samples: int = 500
    seed: int = 0
    data: str | None = None
    data_root: Path | None = None
    against: tuple[str, ...] = ()
    budget: float = BUDGET
    threads: int = 1


def models_below(folder: Path, formats: Sequence[str]) -> Iterator[Path]:
    """Model files with a zoo manifest beside them, in a fixed order.

    A manifest says only where a model lies; what it says about it is read after the scan. Raises
    `UsageError` when there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; audit zoo population builds one")
    for manifest in sorted(folder.rglob(f"*{MANIFEST_SUFFIX}")):
        stem = manifest.name.removesuffix(MANIFEST_SUFFIX)
        for suffix in formats:
            model = manifest.with_name(f"{stem}.{suffix}")
            if model.is_file():
                yield model


def is_due(model: Path) -> bool:
    """Whether the model is one a detector can be right about (no member of a data-set study)."""
    try:
        return read_manifest(manifest_path(model)).kind in KINDS
    except ManifestError:
        return False


def measure(job: Job) -> Row:
    """Scan, then read the truth. Never raises for what is wrong with the model."""
    from auditor.options import ScanOptions
    from auditor.scanning import scan

    wanted = [*CHECKS, *(AGAINST[name] for name in job.against)]
    started, spent = time.monotonic(), _children()
    report = scan(
        Path(job.path),
        options=ScanOptions(
            data=job.data,
            data_root=job.data_root,
            train_data=_training(job),
            max_samples=max(10, job.samples),
            checks=tuple(dict.fromkeys(wanted)),
            profile="full" if job.samples else "data-free",
            sanitize=False,
            images=False,
            budget=job.budget,
            seed=job.seed,
            jobs=job.threads,
            device="cpu",
            fail_on="never",
        ),
    )
    seconds, cpu = time.monotonic() - started, _children() - spent
    return _row(job, report, seconds, cpu, truth_of(Path(job.path)))


def _training(job: Job) -> Path | None:
    """The training set the zoo left beside the model, for the baseline that needs one."""
    path = Path(job.path).with_suffix(".train.npz")
    return path if "activation-clustering" in job.against and path.is_file() else None


def truth_of(model: Path) -> Truth:
    """What the manifest says. Raises `ManifestError`."""
    manifest = read_manifest(manifest_path(model))
    attack = manifest.attack
    family = str(attack.triggers[0].get("family", "?")) if attack and attack.triggers else "-"
    return Truth(
        kind=manifest.kind,
        architecture=manifest.architecture,
        dataset=manifest.dataset.name,
        parameters=manifest.parameters,
        family=family,
        rule=attack.rule if attack else "-",
        targets=attack.targets if attack else (),
        asr=min(attack.asr, default=0.0) if attack else 0.0,
        accuracy=manifest.clean_accuracy,
        accepted=manifest.accepted,
    )


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _row(job: Job, report: Report, seconds: float, cpu: float, truth: Truth) -> Row:
    checks = {c.name: c for c in report.checks}
    features: dict[str, float] = {}
    for name in CHECKS:
        found = checks[name].metrics.get("features") if name in checks else None
        if isinstance(found, dict):
            features.update({k: float(v) for k, v in found.items()})
    findings = [f for f in report.findings if f.rule in RULES]
    passes = (
        _count(checks, "inversion", "inversion.passes"),
        _count(checks, "all-to-all", "all-to-all.passes"),
        _margin_passes(checks),
        _count(checks, "consensus", "consensus.passes"),
    )
    return Row(
        model=job.name,
        sha256=report.artifact.sha256,
        format=report.artifact.format,
        samples=job.samples,
        seed=job.seed,
        truth=truth,
        status={c.name: c.status for c in report.checks},
        severity=findings[0].severity if findings else "",
        named=findings[0].target_class if findings else _named(checks),
        seconds=round(sum(checks[c].seconds for c in CHECKS if c in checks), 3),
        cpu_seconds=round(cpu, 3) if not job.against else 0.0,
        passes=sum(passes),
        features=features,
        measures=_measures(checks),
        baselines={name: _baseline(name, checks) for name in job.against},
        error=report.error.message if report.error else _died(report, seconds),
    )


def _died(report: Report, seconds: float) -> str:
    dead = [f for f in report.findings if f.rule.startswith("sandbox.")]
    return f"{dead[0].title} after {seconds:.0f} s" if dead else ""


_NAMES = (
    ("inversion", "inversion.target"),
    ("consensus", "consensus.target"),
    ("data-free", "data-free.margin.target"),
)


def _named(checks: dict[str, CheckRecord]) -> int | None:
    """The easiest class, flagged or not."""
    for check, metric in _NAMES:
        value = checks[check].metrics.get(metric) if check in checks else None
        if value is not None:
            return int(value)
    return None


def _measures(checks: dict[str, CheckRecord]) -> dict[str, tuple[float | None, ...]]:
    """What the consensus added up, class by class."""
    found = checks["consensus"].metrics.get("measures") if "consensus" in checks else None
    table = found if isinstance(found, list) else []
    names = dict.fromkeys(name for row in table for name in row if name != "class")
    return {name: tuple(row.get(name) for row in table) for name in names}


def _count(checks: dict[str, CheckRecord], check: str, metric: str) -> int:
    return int(checks[check].metrics.get(metric, 0)) if check in checks else 0


def _margin_passes(checks: dict[str, CheckRecord]) -> int:
    return _count(checks, "data-free", "data-free.passes")


def _baseline(name: str, checks: dict[str, CheckRecord]) -> Baseline:
    check = checks.get(AGAINST[name])
    if check is None or check.status in ("skipped", "incomplete"):
        return Baseline(why=check.reason if check is not None else "did not run")
    m: dict[str, Any] = dict(check.metrics)
    if name == "mm-bd":
        p = float(m["data-free.margin.p"])
        passes = _margin_passes(checks)
        target = int(m["data-free.margin.target"])
        return Baseline(-math.log10(max(p, 1e-300)), p < 0.05, target, check.seconds, passes)
    prefix = f"{AGAINST[name]}."
    named = m.get(prefix + "target")
    return Baseline(
        float(m[prefix + "score"]),
        bool(m[prefix + "flag"]),
        int(named) if named is not None else None,
        check.seconds,
        int(m.get(prefix + "passes", 0)),
    )
