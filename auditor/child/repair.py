"""Child operation ``repair``: choose a repair for the session of the last ``behave``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from auditor import plugins
from auditor.checks.interface import Budget, Evidence
from auditor.child.behave import STATE
from auditor.child.file_audit import Emit, Reply
from auditor.child.session import Session
from auditor.errors import UsageError
from auditor.samples.interface import Images
from auditor.sanitize.chooser import choose
from auditor.sanitize.interface import Repair, RepairContext, Sanitizer

_FEWEST = 20
_MORE_TO_JUDGE = 1500
"""Samples beyond ``--max-samples`` that judge too, where they were given: they cost no training."""
AUTO = "auto"


def run(params: dict[str, Any], arrays: dict[str, Any], emit: Emit) -> Reply:
    """``params``: ``method``, ``path``, ``seconds``, ``reserve`` (more of them, where no copy
    works), ``max_accuracy_drop``, ``seed``, ``max_samples``, ``provenance``.

    The result body says ``repaired`` and lists every candidate; if repaired, the arrays are the
    changed parameters by name, or one array ``model`` with the bytes of a model with new nodes.
    """
    session: Session | None = STATE.get("session")
    if session is None:
        return {"repaired": False, "reason": "the model could not be run"}, {}
    if not session.classifier.has_twin:
        reason = f"sanitizing needs gradients: {session.classifier.twin_reason}"
        return {"repaired": False, "reason": reason}, {}
    if session.samples is not None and len(session.samples) < _FEWEST:
        return {"repaired": False, "reason": f"sanitizing needs at least {_FEWEST} samples"}, {}
    methods = sanitizers(str(params["method"]))
    if session.samples is None and all(method.needs_samples for method in methods):
        return {"repaired": False, "reason": f"{methods[0].name} needs labelled samples"}, {}
    choice = choose(context_of(session, params), methods)
    if choice.repair is None:
        body = {"repaired": False, "reason": choice.reason, "candidates": choice.rows}
        return body, {}
    repair = choice.repair
    body = {
        "repaired": True,
        "method": repair.method,
        "record": {**repair.record, **_size(session, repair)},
        "candidates": choice.rows,
        "with_nodes": bool(repair.bounds),
    }
    if repair.bounds:
        return body, {"model": _with_nodes(params, repair)}
    return body, {name: np.ascontiguousarray(value) for name, value in repair.changes.items()}


def sanitizers(method: str) -> list[Sanitizer]:
    """The one called `method`, or all for ``auto``. Raises `UsageError` for an unknown name."""
    known = {p.value.name: p.value for p in plugins.load("audit.sanitizers").plugins}
    if method == AUTO:
        return [made() for made in known.values()]
    if method not in known:
        names = ", ".join([AUTO, *sorted(known)])
        raise UsageError(f"there is no sanitizing method {method!r}; methods are: {names}")
    return [known[method]()]


def context_of(session: Session, params: dict[str, Any]) -> RepairContext:
    """What the methods get: the samples in two halves, and what the audit left as evidence."""
    samples = session.samples
    if samples is None:
        nothing = np.zeros((0, *session.classifier.image_shape), np.float32)
        samples = Images(nothing, np.zeros(0, np.int64), "none")
    most = int(params["max_samples"])
    few = samples.take(slice(0, most))
    half = len(few) // 2
    evidence: Evidence = STATE["evidence"]
    judging = samples.take(slice(half, most + _MORE_TO_JUDGE))
    return RepairContext(
        classifier=session.classifier,
        train=few.take(slice(0, half)),
        held_out=judging,
        triggers=[*(evidence.triggers or evidence.leads), *evidence.relatives],
        sure=evidence.sure,
        budget=Budget(float(params["seconds"])),
        reserve=float(params.get("reserve", 0.0)),
        max_accuracy_drop=float(params["max_accuracy_drop"]),
        seed=int(params["seed"]),
        path=Path(params["path"]),
    )


def _with_nodes(params: dict[str, Any], repair: Repair) -> np.ndarray[Any, Any]:
    from auditor.sanitize.activation_bounds import insert_bounds
    from auditor.sanitize.graph_cut import model_bytes

    model = insert_bounds(Path(params["path"]), dict(repair.bounds))
    provenance = {**params["provenance"], "method": repair.method}
    return np.frombuffer(model_bytes(model, provenance), np.uint8)


def _size(session: Session, repair: Repair) -> dict[str, Any]:
    twin = session.classifier.twin
    assert twin is not None
    changed = sum(
        int(np.count_nonzero(twin.parameters[n].cpu().numpy() != v))
        for n, v in repair.changes.items()
    )
    return {
        "parameters_changed": changed,
        "parameters": int(sum(p.numel() for p in twin.parameters.values())),
    }
