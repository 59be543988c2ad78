"""Child operation ``measure``: success of stated triggers on the session of the last ``behave``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.child.behave import STATE
from auditor.child.file_audit import Emit, Reply
from auditor.child.session import Session
from auditor.triggers.registry import trigger_from_json


def run(params: dict[str, Any], arrays: dict[str, Any], emit: Emit) -> Reply:
    """``params``: ``triggers``, a list of ``{"trigger": ..., "target": k}``, and ``max_samples``.

    A target of None is all-to-all (class k goes to k + 1); ``sources`` limits the classes.

    Result: ``asr`` and ``ra`` per trigger by the native runtime, over images of other classes: the
    share sent to the target, and the share still given its true label (robust accuracy, RA).
    """
    session: Session | None = STATE.get("session")
    if session is None or session.samples is None:
        return {"asr": [], "ra": []}, {}
    few = session.samples.take(slice(0, int(params["max_samples"])))
    asr, ra = [], []
    for entry in params["triggers"]:
        victims, wanted = _victims(few.labels, entry, session.classifier.classes)
        others = few.take(victims)
        if not len(others):
            asr.append(0.0)
            ra.append(0.0)
            continue
        stamped = trigger_from_json(entry["trigger"]).apply(others.pixels)
        predicted = session.classifier.labels(stamped)
        asr.append(float((predicted == wanted).mean()))
        ra.append(float((predicted == others.labels).mean()))
    return {"asr": asr, "ra": ra}, {}


def _victims(
    labels: NDArray[np.int64], entry: dict[str, Any], classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which samples can show the trigger, and the class it sends each of them to."""
    if entry.get("target") is None:
        return np.arange(len(labels)), (labels + 1) % classes
    target = int(entry["target"])
    chosen = labels != target
    if entry.get("sources"):
        chosen &= np.isin(labels, [int(source) for source in entry["sources"]])
    index = chosen.nonzero()[0]
    return index, np.full(len(index), target)
