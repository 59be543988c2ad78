"""What differs between two model files: parameters, nodes, metadata, and what they answer.

Both are opened like any untrusted file: parsed in one child, run in another. The public function is
`diff`; nothing here prints.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.artifacts.interface import Description
from auditor.artifacts.recognise import recognise
from auditor.checks.interface import FileCheck
from auditor.checks.registry import all_checks
from auditor.errors import AuditError
from auditor.inputs import load_samples
from auditor.options import ScanOptions
from auditor.requests import Scored, ask_scores
from auditor.samples.interface import Images
from auditor.sandbox.host import Worker
from auditor.sanitize.measure import paired_drop
from auditor.stages import (
    audit_behaviour,
    audit_file,
    heavy_worker,
    light_worker,
)

_LISTED = 200


@dataclass(slots=True)
class Side:
    """One of the two files as the children told it; `reason` why it could not be run."""

    description: Description
    nodes: list[str]
    metadata: dict[str, str]
    weights: Mapping[str, NDArray[Any]] | None = None
    scored: Scored | None = None
    reason: str = ""


@dataclass(slots=True)
class Difference:
    """Everything ``audit diff`` shows; `incomplete` says what could not be compared, and why."""

    before: str
    after: str
    identical: bool
    file: dict[str, list[Any]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    behaviour: dict[str, Any] = field(default_factory=dict)
    incomplete: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values, no NaN."""
        return asdict(self)


def diff(before: Path, after: Path, options: ScanOptions) -> Difference:
    """Compare two model files. Raises the `AuditError` of one that cannot be read."""
    sides: list[Side] = []
    samples: Images | None = None
    notices: list[str] = []
    for path in (before, after):
        kind = recognise(path)
        with light_worker(path, options, kind) as worker:
            side = _outline(worker, path)
        if samples is None and not sides:
            samples = load_samples(before, options, side.description, notices)
        if not side.reason:
            _run(side, path, samples, options)
        sides.append(side)
    first, second = sides
    result = Difference(
        before.name, after.name, first.description.sha256 == second.description.sha256
    )
    _facts(result, first, second)
    _nodes(result, first, second)
    _parameters(result, first, second)
    _behaviour(result, first, second, samples is not None)
    return result


def _outline(worker: Worker, path: Path) -> Side:
    checks = [r.check for r in all_checks()[0] if issubclass(r.check, FileCheck)]
    stage = audit_file(worker, path, checks)
    if stage.description is None:
        raise stage.died or AuditError(f"{path.name} could not be parsed")
    side = Side(stage.description, [], {})
    blocking = [f for r in stage.results for f in r.findings if f.blocks_run]
    if blocking:
        side.reason = f"{path.name} is not run: {blocking[0].title} ({blocking[0].rule})"
    if stage.died is None:
        body = worker.result("outline", {"path": str(path.absolute())}).body
        side.nodes = [str(node) for node in body.get("nodes", [])]
        side.metadata = {str(k): str(v) for k, v in dict(body.get("metadata", {})).items()}
    return side


def _run(side: Side, path: Path, samples: Images | None, options: ScanOptions) -> None:
    with heavy_worker(path, options) as worker:
        stage = audit_behaviour(worker, path, [], samples, None, options, 30.0, lambda what: None)
        if stage.reason or stage.died is not None:
            side.reason = f"{path.name}: {stage.reason or stage.died}"
            return
        side.scored = ask_scores(worker, options)
        with contextlib.suppress(AuditError):
            message = worker.result("weights", {})
            if message.body.get("read"):
                side.weights = message.arrays


def _facts(result: Difference, first: Side, second: Side) -> None:
    """Format, size, operator set, inputs and outputs: only what differs."""
    pairs: dict[str, list[Any]] = {
        "format": [s.description.format for s in (first, second)],
        "bytes": [sum(f.bytes for f in s.description.files) for s in (first, second)],
        "producer": [s.description.producer for s in (first, second)],
        "version": [s.description.version for s in (first, second)],
        "parameters": [s.description.parameters for s in (first, second)],
        "inputs": [[_tensor(t) for t in s.description.inputs] for s in (first, second)],
        "outputs": [[_tensor(t) for t in s.description.outputs] for s in (first, second)],
    }
    result.file = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    old, new = first.metadata, second.metadata
    result.metadata = {
        "added": {k: new[k] for k in new if k not in old},
        "removed": {k: old[k] for k in old if k not in new},
        "changed": {k: [old[k], new[k]] for k in old if k in new and old[k] != new[k]},
    }


def _tensor(info: Any) -> str:
    shape = "?" if info.shape is None else "x".join(str(axis) for axis in info.shape)
    return f"{info.name} {info.dtype} {shape}"


def _nodes(result: Difference, first: Side, second: Side) -> None:
    old, new = Counter(first.nodes), Counter(second.nodes)
    removed, added = list((old - new).elements()), list((new - old).elements())
    kinds = first.description.operators, second.description.operators
    operators = {
        name: [kinds[0].get(name, 0), kinds[1].get(name, 0)]
        for name in sorted({*kinds[0], *kinds[1]})
        if kinds[0].get(name, 0) != kinds[1].get(name, 0)
    }
    result.nodes = {
        "before": len(first.nodes),
        "after": len(second.nodes),
        "added": added[:_LISTED],
        "removed": removed[:_LISTED],
        "added_count": len(added),
        "removed_count": len(removed),
        "operators": operators,
    }


def _parameters(result: Difference, first: Side, second: Side) -> None:
    """Values that differ, by name: how many, and the L2 norm of the difference."""
    if first.weights is None or second.weights is None:
        result.incomplete.append("parameters: they could not be read from both models")
        return
    old, new = first.weights, second.weights
    rows: list[dict[str, Any]] = []
    for name in sorted(old.keys() & new.keys()):
        if old[name].shape != new[name].shape:
            shapes = [list(old[name].shape), list(new[name].shape)]
            rows.append({"name": name, "shapes": shapes})
            continue
        gap = new[name].astype(np.float64) - old[name]
        moved = int(np.count_nonzero(gap))
        if moved:
            norm = float(np.sqrt(np.square(np.nan_to_num(gap)).sum()))
            base = float(np.sqrt(np.square(np.nan_to_num(old[name].astype(np.float64))).sum()))
            rows.append(
                {"name": name, "changed": moved, "of": int(gap.size), "norm": norm,
                 "relative": norm / base if base else 0.0}
            )  # fmt: skip
    result.parameters = {
        "changed": sum(row.get("changed", 0) for row in rows),
        "of": int(sum(value.size for value in old.values())),
        "norm": float(np.sqrt(sum(row.get("norm", 0.0) ** 2 for row in rows))),
        "tensors": rows,
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
    }


def _behaviour(result: Difference, first: Side, second: Side, samples: bool) -> None:
    result.incomplete += [side.reason for side in (first, second) if side.reason]
    if first.scored is None or second.scored is None:
        if not any(side.reason for side in (first, second)):
            result.incomplete.append("behaviour: the scores could not be compared")
        return
    one, labels, two, others = *first.scored[:2], *second.scored[:2]
    if one.shape != two.shape:
        result.incomplete.append(f"behaviour: scores of shape {one.shape} and {two.shape}")
        return
    gap = np.abs(one.astype(np.float64) - two)
    finite = gap[np.isfinite(gap)]
    result.behaviour = {
        "on": f"{len(one)} samples" if samples else f"{len(one)} noise images (no --data)",
        "agreement": float((one.argmax(1) == two.argmax(1)).mean()),
        "max_difference": float(finite.max(initial=0.0)),
        "mean_difference": float(finite.mean()) if finite.size else 0.0,
        "identical": bool(np.array_equal(one, two)),
    }
    if len(labels) == len(one) and np.array_equal(labels, others):
        hits = one.argmax(1) == labels, two.argmax(1) == labels
        paired = paired_drop(hits[0], hits[1])
        result.behaviour |= {
            "accuracy": [float(hits[0].mean()), float(hits[1].mean())],
            "accuracy_drop": paired.drop,
            "accuracy_drop_interval": [paired.low, paired.high],
        }
