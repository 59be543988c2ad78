"""Child operation ``repair``: run one sanitizer on the session of the last ``behave``."""

from __future__ import annotations

from typing import Any

import numpy as np

from auditor import plugins
from auditor.checks.interface import Budget
from auditor.child.behave import STATE
from auditor.child.file_audit import Emit, Reply
from auditor.child.session import Session
from auditor.errors import UsageError
from auditor.sanitize.interface import Repair, RepairContext, Sanitizer

_FEWEST = 20


def run(params: dict[str, Any], arrays: dict[str, Any], emit: Emit) -> Reply:
    """``params``: ``method``, ``seconds``, ``max_accuracy_drop``, ``seed``, ``max_samples``.

    The result body says ``repaired`` and, if so, the arrays are the changed parameters by name.
    """
    session: Session | None = STATE.get("session")
    if session is None or session.samples is None:
        return {"repaired": False, "reason": "sanitizing needs labelled samples"}, {}
    if not session.classifier.has_twin:
        reason = f"sanitizing needs gradients: {session.classifier.twin_reason}"
        return {"repaired": False, "reason": reason}, {}
    if len(session.samples) < _FEWEST:
        return {"repaired": False, "reason": f"sanitizing needs at least {_FEWEST} samples"}, {}
    repair = _sanitizer(str(params["method"])).repair(_context(session, params))
    if repair is None:
        return {"repaired": False, "reason": "the method found nothing it can change"}, {}
    return {
        "repaired": True,
        "method": repair.method,
        "record": {**repair.record, **_size(session, repair)},
    }, {name: np.ascontiguousarray(value) for name, value in repair.changes.items()}


def _sanitizer(method: str) -> Sanitizer:
    known = {p.value.name: p.value for p in plugins.load("audit.sanitizers").plugins}
    if method not in known:
        names = ", ".join(sorted(known))
        raise UsageError(f"there is no sanitizing method {method!r}; methods are: {names}")
    chosen: Sanitizer = known[method]()
    return chosen


def _context(session: Session, params: dict[str, Any]) -> RepairContext:
    assert session.samples is not None
    few = session.samples.take(slice(0, int(params["max_samples"])))
    half = len(few) // 2
    return RepairContext(
        classifier=session.classifier,
        train=few.take(slice(0, half)),
        held_out=few.take(slice(half, None)),
        triggers=STATE["evidence"].triggers,
        budget=Budget(float(params["seconds"])),
        max_accuracy_drop=float(params["max_accuracy_drop"]),
        seed=int(params["seed"]),
    )


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
