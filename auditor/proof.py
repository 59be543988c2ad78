"""What a sanitized copy is measured by, and how it gets to its place in one piece."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from auditor.errors import AuditError
from auditor.findings import Finding, Severity
from auditor.manifest import ManifestError, manifest_path, read_manifest
from auditor.options import ScanOptions
from auditor.requests import Scored
from auditor.sandbox.host import Worker
from auditor.sanitize.measure import Paired, paired_drop

_WORKS = "probe.trigger"
_EXACT = 1e-6
"""Largest difference of outputs a graph cut may make on ordinary inputs."""


@dataclass(slots=True)
class Outcome:
    """Both columns; `reason` why the copy could not be run, `still` trigger rules it breaks.

    `alive` is the title of the finding that a known trigger works on the copy, `doubts` are those
    of other findings that convict a class of it.
    """

    graph: bool = False
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    before_rates: list[float] = field(default_factory=list)
    after_rates: list[float] = field(default_factory=list)
    still: list[str] = field(default_factory=list)
    alive: str = ""
    doubts: list[str] = field(default_factory=list)
    reason: str = ""
    held_out: Paired | None = None
    same: bool = True

    def hear(self, findings: Iterable[Finding]) -> None:
        """What the second audit says against a class of the copy."""
        for finding in findings:
            if finding.target_class is None or finding.severity < Severity.HIGH:
                continue
            if finding.rule == _WORKS:
                self.alive = finding.title
            else:
                self.doubts.append(finding.title)

    def compare(
        self, first: Scored | None, second: Scored | None, most: int, *, speed: bool = False
    ) -> None:
        """Accuracy on the samples the repair never saw, agreement, and the largest difference."""
        if first is None or second is None or first.scores.shape != second.scores.shape:
            return
        one, two, labels = first.scores, second.scores, first.labels
        if speed:
            self.before["images_per_second"] = first.speed
            self.after["images_per_second"] = second.speed
        picks = one.argmax(1), two.argmax(1)
        agree = picks[0] == picks[1]
        gap = np.abs(one - two)
        self.after["outputs.agreement"] = float(agree.mean())
        self.after["outputs.max_difference"] = float(gap[agree].max(initial=0.0))
        # A sample that carries the trigger is meant to change; all others may not.
        scale = max(1.0, float(np.abs(two).max(initial=0.0)))
        self.same = bool(agree.mean() > 0.5 and gap[agree].max(initial=0.0) <= _EXACT * scale)
        if len(labels) != len(one):
            return
        fitted = 0 if self.graph else min(len(labels), most) // 2
        hits = [(pick == labels)[fitted:] for pick in picks]
        self.held_out = paired_drop(hits[0], hits[1])
        for column, hit in zip((self.before, self.after), hits, strict=True):
            column["accuracy.held-out"] = float(hit.mean()) if len(hit) else 0.0
        self.after["accuracy.drop"] = self.held_out.drop
        self.after["accuracy.drop.low"] = self.held_out.low
        self.after["accuracy.drop.high"] = self.held_out.high
        self.after["accuracy.drop.samples"] = self.held_out.n

    def objection(self, limit: float, graph: bool) -> str:
        """Why this copy must not be handed out; empty when it may."""
        if self.reason:
            return f"the copy could not be audited ({self.reason})"
        if self.still:
            return f"the copy still breaks {self.still[0]}"
        if self.alive:
            return f"the copy, audited again, is still backdoored ({self.alive})"
        if graph and not self.same:
            return "the cut changes what the model answers on ordinary inputs"
        if self.held_out is not None and self.held_out.drop > limit + 1e-9:
            return (
                f"clean accuracy on held-out samples would fall by {self.held_out.drop:.1%} "
                f"({self.held_out.low:.1%} to {self.held_out.high:.1%}), and --max-accuracy-drop "
                f"is {limit:.1%}"
            )
        return ""


def describe_pair(outcome: Outcome, path: Path, copy: Path) -> None:
    """Recovered ASR and file size in both columns."""
    pairs = (
        (outcome.before, outcome.before_rates, path),
        (outcome.after, outcome.after_rates, copy),
    )
    for column, rates, file in pairs:
        if rates:
            column["recovered.asr.max"] = max(rates)
        beside = file.with_name(f"{file.name}.data")
        extra = beside.stat().st_size if beside.is_file() else 0
        column["file.bytes"] = file.stat().st_size + extra


def manifest_truth(path: Path, worker: Worker, options: ScanOptions) -> dict[str, float]:
    """True ASR and RA of the loaded model, if a zoo manifest beside `path` states the trigger.

    Read only here, when the copy is made: no check and no repair ever sees it.
    """
    source = manifest_path(path)
    if not source.is_file():
        return {}
    try:
        attack = read_manifest(source).attack
        if attack is None:
            return {}
        targets: Sequence[int | None] = attack.targets or (None,) * len(attack.triggers)
        wanted = [
            {"trigger": trigger, "target": target, "sources": list(attack.sources)}
            for trigger, target in zip(attack.triggers, targets, strict=True)
        ]
        body = worker.result(
            "measure", {"triggers": wanted, "max_samples": options.max_samples}
        ).body
    except (AuditError, ManifestError, ValueError):
        return {}
    asr = [float(v) for v in body.get("asr", []) if isinstance(v, int | float)]
    ra = [float(v) for v in body.get("ra", []) if isinstance(v, int | float)]
    return {"true.asr": max(asr), "true.ra": min(ra)} if asr and ra else {}


def publish(files: Sequence[Path], folder: Path) -> None:
    """Put finished files into `folder`, the model last, each appearing whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(files, key=lambda f: f.suffix != ".data"):
        _appear(file, folder / file.name)


def _appear(source: Path, target: Path) -> None:
    """Copy `source` to `target` without a moment in which a part of it has a name.

    On Linux the data are written to a nameless file (O_TMPFILE) that is then linked; elsewhere to
    a hidden temporary name that is removed on failure.
    """
    if hasattr(os, "O_TMPFILE"):
        with contextlib.suppress(OSError):
            _link(source, target)
            return
    hidden = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, hidden)
        hidden.replace(target)
    finally:
        hidden.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    handle = os.open(target.parent, os.O_TMPFILE | os.O_RDWR, 0o644)
    with os.fdopen(handle, "wb") as nameless:
        with source.open("rb") as data:
            shutil.copyfileobj(data, nameless, 1 << 20)
        nameless.flush()
        os.fsync(nameless.fileno())
        link = f"/proc/self/fd/{nameless.fileno()}"
        if not target.exists():
            os.link(link, target, follow_symlinks=True)
            return
        # An older copy is there: a whole file under another name takes its place.
        whole = target.with_name(f".{target.name}.{os.getpid()}.new")
        os.link(link, whole, follow_symlinks=True)
        whole.replace(target)
