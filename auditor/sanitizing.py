"""Write the repaired copy and prove it: reopened natively, re-audited, compared.

The copy is made and judged in a temporary folder; only one that holds is put, whole, where the user
wants it. Whatever interrupts this leaves the input as it was and no output.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from auditor.artifacts.open import open_artifact
from auditor.artifacts.recognise import recognise
from auditor.checks.interface import Check, FileCheck
from auditor.checks.registry import all_checks
from auditor.errors import AuditError
from auditor.findings import CheckResult
from auditor.options import ScanOptions
from auditor.proof import Outcome, describe_pair, manifest_truth, publish
from auditor.report.model import SanitizedRecord
from auditor.requests import Repaired, ask_asr, ask_cut, ask_repair, ask_scores
from auditor.samples.interface import Images
from auditor.samples.preprocessing import from_json
from auditor.sandbox.host import Worker
from auditor.sanitize.judge import STILL_ALIVE
from auditor.stages import (
    BehaviourStage,
    FileStage,
    audit_behaviour,
    audit_file,
    heavy_worker,
    light_worker,
)
from auditor.version import __version__

REAUDIT_SECONDS = 8.0

_COMPARED = ("accuracy", "probe", "inversion", "robustness.fgsm")
_TRIGGER_RULES = ("graph.trigger",)


def sanitized_name(path: Path) -> str:
    """``<stem>.sanitized.<ext>``."""
    return f"{path.stem}.sanitized{path.suffix}"


def sanitize_and_reaudit(
    worker: Worker,
    path: Path,
    before: BehaviourStage,
    samples: Images | None,
    options: ScanOptions,
    notices: list[str],
    *,
    graph: bool = False,
) -> SanitizedRecord | None:
    """Repair with the model `worker` has loaded, write the copy into ``options.out``, audit it.

    `graph`: cut trigger logic out of the graph instead of changing weights. None, with a notice,
    when there is no repair or no folder to write to.
    """
    if options.out is None:
        notices.append("Not sanitized: no output folder was given.")
        return None
    provenance = {
        "tool": f"model-auditor {__version__}",
        "source_sha256": open_artifact(path).describe().sha256,
    }
    ask = ask_cut if graph else ask_repair
    repaired = ask(worker, path, provenance, options)
    if isinstance(repaired, str):
        notices.append(f"Not sanitized: {repaired}; nothing was written.")
        return None
    if samples is None and not graph:
        notices.append(
            f"No samples: only methods that need none were tried ({repaired.method}); what the "
            "repair costs in accuracy, and whether it removes a backdoor, was not measured."
        )
    with tempfile.TemporaryDirectory(prefix="audit-sanitize-") as room:
        copy = Path(room) / sanitized_name(path)
        try:
            written = _write(path, copy, repaired, provenance)
            slimmed = _slim(copy, options, notices)
        except (AuditError, KeyError, ValueError, OSError) as error:
            notices.append(f"Not sanitized: the changes do not fit the file ({error}).")
            return None
        outcome = _prove(worker, path, copy, before, samples, options, graph)
        why = outcome.objection(options.max_accuracy_drop, graph)
        if why:
            notices.append(f"Not sanitized: {why}; nothing was written.")
            return None
        publish(written, options.out)
    notices.extend(_words(outcome, graph))
    record = {f"repair.{k}": v for k, v in {**repaired.record, **slimmed}.items()}
    if repaired.candidates:
        record["repair.candidates"] = list(repaired.candidates)
    return SanitizedRecord(
        path=sanitized_name(path),
        method=repaired.method,
        before=outcome.before,
        after={**outcome.after, **record},
    )


def _write(
    path: Path, target: Path, repaired: Repaired, provenance: dict[str, str]
) -> tuple[Path, ...]:
    if repaired.model is not None:
        target.write_bytes(repaired.model)
        return (target,)
    said = {**provenance, "method": repaired.method}
    return open_artifact(path).write(target, repaired.changes, said)


def _slim(copy: Path, options: ScanOptions, notices: list[str]) -> dict[str, Any]:
    """Remove silent channels from the copy if asked; what that saved."""
    if not options.slim:
        return {}
    if copy.suffix.lower() != ".onnx":
        notices.append(
            "Not slimmed: removing channels changes the code of a TorchScript or .pt2 file, which "
            "is never edited; --slim works on ONNX files."
        )
        return {}
    from auditor.sanitize.slim import CannotSlim, slim_file

    try:
        saved = slim_file(copy)
    except CannotSlim as reason:
        notices.append(f"Not slimmed: {reason}.")
        return {}
    return dict(saved)


def _prove(
    worker: Worker,
    path: Path,
    copy: Path,
    before: BehaviourStage,
    samples: Images | None,
    options: ScanOptions,
    graph: bool,
) -> Outcome:
    """Open the copy natively, audit it again in fresh processes, and put both columns together."""
    outcome = Outcome(graph=graph)
    original = ask_scores(worker, options)
    first_rates = ask_asr(worker, before.triggers, options)
    truth = manifest_truth(path, worker, options)
    file = _file_again(copy, options)
    outcome.still = [
        f.rule for r in file.results for f in r.findings if f.rule.startswith(_TRIGGER_RULES)
    ]
    with heavy_worker(copy, options) as fresh:
        stage = _behaviour_again(fresh, copy, before, samples, options)
        outcome.reason = stage.reason if stage.died is None else str(stage.died)
        if not outcome.reason:
            outcome.compare(
                original, ask_scores(fresh, options), options.max_samples, speed=options.slim
            )
            outcome.after_rates = ask_asr(fresh, before.triggers, options)
            outcome.after.update(manifest_truth(path, fresh, options))
    outcome.before.update(truth)
    outcome.before_rates = first_rates
    outcome.hear(finding for result in stage.results for finding in result.findings)
    outcome.before.update(_measures(before.results))
    outcome.after.update(_measures(stage.results))
    describe_pair(outcome, path, copy)
    return outcome


def _file_again(copy: Path, options: ScanOptions) -> FileStage:
    checks = [r.check for r in all_checks()[0] if issubclass(r.check, FileCheck)]
    with light_worker(copy, options, recognise(copy)) as worker:
        return audit_file(worker, copy, checks)


def _behaviour_again(
    worker: Worker,
    copy: Path,
    before: BehaviourStage,
    samples: Images | None,
    options: ScanOptions,
) -> BehaviourStage:
    """The same checks with the same preprocessing on the written file, in a fresh process."""
    names = {r.name for r in before.results if r.status in {"passed", "flagged", "incomplete"}}
    checks: list[type[Check]] = [
        r.check for r in all_checks()[0] if r.check.name in names and r.check.name in _COMPARED
    ]
    values: dict[str, Any] | None = before.facts.get("preprocessing", {}).get("values")
    known = from_json(values) if values else None
    silent = replace(options, images=False)
    return audit_behaviour(
        worker, copy, checks, samples, None, silent, REAUDIT_SECONDS, lambda what: None, known
    )


def _words(outcome: Outcome, graph: bool) -> list[str]:
    """What a person should know about the copy."""
    said = []
    rates = outcome.after_rates
    if rates and max(rates) > STILL_ALIVE:
        said.append(
            f"The sanitized copy still follows a recovered trigger in {max(rates):.0%} of "
            "cases: the repair weakened the backdoor and did not remove it."
        )
    if outcome.doubts:
        said.append(
            f"The sanitized copy, audited again, is still accused: {outcome.doubts[0]}. Audit it "
            "on its own before it is used."
        )
    if graph:
        said.append(
            "The trigger was cut out of the graph (sanitized.after, repair.cut); weights were not "
            "changed."
        )
    return said


def _measures(results: list[CheckResult]) -> dict[str, Any]:
    """The scalars both columns show."""
    return {
        name: value
        for result in results
        if result.name in _COMPARED
        for name, value in result.metrics.items()
        if isinstance(value, int | float | str) and np.isscalar(value)
    }
