"""Write the repaired copy and prove it: reopened natively, re-audited, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from auditor.artifacts.open import open_artifact
from auditor.checks.interface import Check
from auditor.checks.registry import all_checks
from auditor.errors import AuditError
from auditor.findings import CheckResult
from auditor.options import ScanOptions
from auditor.report.model import SanitizedRecord
from auditor.samples.interface import Images
from auditor.samples.preprocessing import from_json
from auditor.sandbox.host import Worker
from auditor.stages import (
    REAUDIT_SECONDS,
    BehaviourStage,
    Repaired,
    ask_asr,
    ask_repair,
    audit_behaviour,
    heavy_worker,
)
from auditor.version import __version__

STILL_ALIVE = 0.1
"""ASR of a recovered trigger above which the copy must not be called repaired without a word."""

_COMPARED = ("accuracy", "probe", "robustness.fgsm")


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
) -> SanitizedRecord | None:
    """Repair with the model `worker` has loaded, write the copy into ``options.out``, audit it.

    None, with a notice, when there is no repair or no folder to write to.
    """
    if options.out is None:
        notices.append("Not sanitized: no output folder was given.")
        return None
    repaired = ask_repair(worker, options)
    if isinstance(repaired, str):
        notices.append(f"Not sanitized: {repaired}.")
        return None
    target = options.out / sanitized_name(path)
    try:
        written = _write(path, target, repaired)
    except (AuditError, KeyError, ValueError, OSError) as error:
        notices.append(f"Not sanitized: the changed parameters do not fit the file ({error}).")
        return None
    first_rates = ask_asr(worker, before.triggers, options)
    after, second_rates = _reaudit(target, before, samples, options)
    first, second = _measures(before.results), _measures(after.results)
    for measures, rates in ((first, first_rates), (second, second_rates)):
        if rates:
            measures["recovered.asr.max"] = max(rates)
    drop = first.get("accuracy.clean", 0.0) - second.get("accuracy.clean", 0.0)
    if after.died is not None or after.reason or drop > options.max_accuracy_drop:
        for file in written:
            file.unlink(missing_ok=True)
        why = after.reason or f"clean accuracy would fall by {drop:.1%}"
        notices.append(f"Not sanitized: {why} (--max-accuracy-drop); nothing was written.")
        return None
    if second_rates and max(second_rates) > STILL_ALIVE:
        notices.append(
            f"The sanitized copy still follows a recovered trigger in {max(second_rates):.0%} of "
            "cases: the repair weakened the backdoor and did not remove it."
        )
    record = {f"repair.{k}": v for k, v in repaired.record.items()}
    return SanitizedRecord(
        path=target.name, method=repaired.method, before=first, after={**second, **record}
    )


def _write(path: Path, target: Path, repaired: Repaired) -> tuple[Path, ...]:
    target.parent.mkdir(parents=True, exist_ok=True)
    artifact = open_artifact(path)
    provenance = {
        "tool": f"model-auditor {__version__}",
        "method": repaired.method,
        "source_sha256": artifact.describe().sha256,
    }
    return artifact.write(target, repaired.changes, provenance)


def _reaudit(
    target: Path, before: BehaviourStage, samples: Images | None, options: ScanOptions
) -> tuple[BehaviourStage, list[float]]:
    """The same checks with the same preprocessing on the written file, in a fresh process.

    Also the recovered triggers' ASR there.
    """
    names = {r.name for r in before.results if r.status in {"passed", "flagged"}}
    checks: list[type[Check]] = [
        r.check for r in all_checks()[0] if r.check.name in names and r.check.name in _COMPARED
    ]
    values: dict[str, Any] | None = before.facts.get("preprocessing", {}).get("values")
    known = from_json(values) if values else None
    with heavy_worker(target, options) as worker:
        stage = audit_behaviour(
            worker,
            target,
            checks,
            samples,
            None,
            options,
            REAUDIT_SECONDS,
            lambda what: None,
            known,
        )
        rates = ask_asr(worker, before.triggers, options) if stage.died is None else []
        return stage, rates


def _measures(results: list[CheckResult]) -> dict[str, Any]:
    """The scalars both columns show."""
    return {
        name: value
        for result in results
        if result.name in _COMPARED
        for name, value in result.metrics.items()
        if isinstance(value, int | float | str)
    }
