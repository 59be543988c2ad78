"""Child operation ``measure``: success of stated triggers on the session of the last ``behave``."""

from __future__ import annotations

from typing import Any

from auditor.child.behave import STATE
from auditor.child.file_audit import Emit, Reply
from auditor.child.session import Session
from auditor.triggers.registry import trigger_from_json


def run(params: dict[str, Any], arrays: dict[str, Any], emit: Emit) -> Reply:
    """``params``: ``triggers``, a list of ``{"trigger": ..., "target": k}``, and ``max_samples``.

    Result: ``asr`` and ``ra`` per trigger by the native runtime, over images of other classes: the
    share sent to the target, and the share still given its true label (robust accuracy, RA).
    """
    session: Session | None = STATE.get("session")
    if session is None or session.samples is None:
        return {"asr": [], "ra": []}, {}
    few = session.samples.take(slice(0, int(params["max_samples"])))
    asr, ra = [], []
    for entry in params["triggers"]:
        others = few.take((few.labels != int(entry["target"])).nonzero()[0])
        stamped = trigger_from_json(entry["trigger"]).apply(others.pixels)
        predicted = session.classifier.labels(stamped)
        asr.append(float((predicted == int(entry["target"])).mean()) if len(others) else 0.0)
        ra.append(float((predicted == others.labels).mean()) if len(others) else 0.0)
    return {"asr": asr, "ra": ra}, {}
