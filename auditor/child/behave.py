"""Child operation ``behave``: load the artifact, build the classifier, run the behaviour checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from auditor.artifacts.open import open_artifact
from auditor.checks.behaviour.pictures import sheet
from auditor.checks.interface import BehaviourCheck, BehaviourContext, Budget, Evidence
from auditor.checks.registry import all_checks
from auditor.checks.runner import run_behaviour
from auditor.checks.wire import to_wire
from auditor.child.file_audit import Emit, Reply
from auditor.child.session import NotAClassifier, Request, Session, images_from, open_session
from auditor.errors import UnsupportedArtifact
from auditor.findings import CheckResult
from auditor.samples.preprocessing import Overrides, from_json

STATE: dict[str, Any] = {}
"""What a later operation on the same artifact reuses: the session and the evidence."""


def run(params: dict[str, Any], arrays: dict[str, Any], emit: Emit) -> Reply:
    """Events: ``started`` and ``check`` for each check, ``session`` once the model is understood.

    The result says ``loaded`` false with a ``reason`` when the artifact does not run, and
    ``classifier`` false when it is none.
    """
    request = request_from(params, arrays)
    checks = _checks(params["checks"])
    artifact = open_artifact(request.path)
    try:
        runtime = artifact.open_runtime(threads=request.threads)
        session = open_session(request, artifact, runtime)
    except NotAClassifier as reason:
        return {"classifier": False, "reason": str(reason)}, {}
    except UnsupportedArtifact as reason:
        return {"loaded": False, "reason": str(reason)}, {}
    STATE["session"] = session
    STATE["evidence"] = Evidence()
    emit({"session": session.facts, "notices": session.notices}, {})
    context = _context(session, params)
    met, why = _met(session)

    def report(result: CheckResult) -> None:
        body, pictures = to_wire(result)
        emit({"check": body}, pictures)

    run_behaviour(checks, context, met, why, report, lambda name: emit({"started": name}, {}))
    found = _backdoor(context.evidence)
    return {"classifier": True, "backdoor": found}, _picture(context)


def request_from(params: Mapping[str, Any], arrays: dict[str, Any]) -> Request:
    """What the parent sent, with seeds and threads set."""
    import torch

    torch.set_num_threads(int(params["threads"]))
    torch.manual_seed(int(params["seed"]))
    np.random.seed(int(params["seed"]))
    stated: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in params["overrides"].items()
    }
    known = params.get("preprocessing")
    return Request(
        path=Path(params["path"]),
        overrides=Overrides(**stated),
        samples=images_from(params, arrays, "samples"),
        training=images_from(params, arrays, "training"),
        threads=int(params["threads"]),
        device=_device(str(params["device"])),
        preprocessing=None if known is None else from_json(known),
    )


def _device(wanted: str) -> str:
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _checks(names: list[str]) -> list[type[BehaviourCheck]]:
    wanted = set(names)
    return [
        r.check
        for r in all_checks()[0]
        if r.check.name in wanted and issubclass(r.check, BehaviourCheck)
    ]


def _context(session: Session, params: Mapping[str, Any]) -> BehaviourContext:
    samples = session.samples
    few = None if samples is None else samples.take(slice(0, int(params["max_samples"])))
    return BehaviourContext(
        classifier=session.classifier,
        samples=few,
        training=session.training,
        budget=Budget(float(params["seconds"])),
        seed=int(params["seed"]),
        device=session.classifier.device,
        evidence=STATE["evidence"],
        options={**params.get("options", {}), "path": str(params["path"])},
        all_samples=samples,
    )


def _met(session: Session) -> tuple[frozenset[str], dict[str, str]]:
    met = {"file", "predictions"}
    why: dict[str, str] = {}
    if session.samples is not None:
        met.add("samples")
    if session.training is not None:
        met.add("training_data")
    if session.classifier.has_twin:
        met.add("gradients")
        if session.classifier.twin is not None and session.classifier.twin.features is not None:
            met.add("activations")
    else:
        reason = session.classifier.twin_reason
        why = {"gradients": reason, "activations": reason}
    return frozenset(met), why


def _picture(context: BehaviourContext) -> dict[str, Any]:
    """The strongest recovered trigger on a mid-grey image."""
    if not context.evidence.triggers:
        return {}
    strongest = max(context.evidence.triggers, key=lambda t: t.asr - t.baseline)
    grey = np.full((1, *context.classifier.image_shape), 0.5, np.float32)
    return {"trigger": sheet([strongest.trigger.apply(grey)])}


def _backdoor(evidence: Evidence) -> dict[str, Any]:
    """The recovered triggers, strongest first, as JSON."""
    ranked = sorted(evidence.triggers, key=lambda t: t.baseline - t.asr)
    return {
        "triggers": [
            {
                "family": t.trigger.family,
                "name": t.trigger.name,
                "trigger": t.trigger.to_json(),
                "target": t.target,
                "asr": t.asr,
                "baseline": t.baseline,
                "size": t.size,
                "source": t.source,
            }
            for t in ranked[:20]
        ]
    }
