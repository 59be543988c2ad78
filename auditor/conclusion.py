"""From everything a scan found to its report: policy, probability, verdict."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from auditor.calibration.judge import Judgement, judge
from auditor.calibration.model import load
from auditor.calibration.suspect import told
from auditor.environment import environment
from auditor.findings import CheckResult, Finding, Severity
from auditor.policy.evaluate import evaluate
from auditor.report.build import About, Parts, build_report, display_path, png_data_uri
from auditor.report.model import Backdoor, Report, SamplesRecord, TriggerRecord
from auditor.stages import BehaviourStage, as_float
from auditor.verdict import decide
from auditor.work import Work


def conclude(work: Work, seconds: float) -> Report:
    """The report of an audit that took `seconds`."""
    shown = display_path(work.path)
    said = _probability(work, work.results)
    results = told(work.results, said)
    outcome = evaluate(
        work.policy,
        results,
        metrics=said.metrics(),
        path=shown,
        today=datetime.datetime.now(datetime.UTC).date(),
        baseline=work.options.baseline,
    )
    findings = [finding for _, finding in outcome.findings]
    decision = decide(
        findings,
        results,
        samples_given=work.samples is not None,
        fail_on=work.policy.gate,
        unmet=outcome.unmet,
    )
    parts = Parts(
        path=shown,
        description=work.file.description,
        samples=_samples_record(work),
        checks=results,
        about={c.name: About(c.title, c.doc) for c in work.checks},
        findings=outcome.findings,
        suppressions=outcome.suppressions,
        backdoor=_backdoor(work, findings, said),
        metrics=said.metrics(),
        sanitized=work.sanitized,
        notices=[*work.notices, *outcome.notices],
        policy=work.policy.to_json(work.options.policy_source),
        environment=environment(work.protections, work.options.command),
        seed=work.options.seed,
        seconds=seconds,
        images=work.options.images,
    )
    return build_report(parts, decision)


def _samples_record(work: Work) -> SamplesRecord | None:
    if work.samples is None:
        return None
    accuracy = next(
        (r.metrics["accuracy.clean"] for r in work.results if "accuracy.clean" in r.metrics), None
    )
    return SamplesRecord(
        source=work.samples.source,
        count=len(work.samples),
        classes=work.samples.classes,
        preprocessing=work.behaviour.facts.get("preprocessing", {}),
        clean_accuracy=as_float(accuracy),
    )


def _probability(work: Work, results: Sequence[CheckResult]) -> Judgement:
    """Calibrated, from the evidence of the checks that ran."""
    description = work.file.description
    chosen = None if work.options.calibration is None else load(work.options.calibration)
    return judge(results, None if description is None else description.parameters, chosen)


def _backdoor(work: Work, findings: Sequence[Finding], said: Judgement) -> Backdoor:
    """Targets named by serious findings; the strongest recovered trigger; the probability."""
    targets = {
        f.target_class
        for f in findings
        if f.target_class is not None and f.severity >= Severity.MEDIUM
    }
    trigger = None
    if work.behaviour.triggers:
        first = work.behaviour.triggers[0]
        size, asr = as_float(first.get("size")), as_float(first.get("asr"))
        if size is not None and asr is not None:
            family = str(first.get("family", ""))
            trigger = TriggerRecord(
                family=family, size=size, asr=asr, image=_trigger_image(work.behaviour)
            )
    return Backdoor(
        probability=said.probability,
        interval=said.interval,
        outside_calibration=said.outside,
        calibration=said.words,
        target_classes=tuple(sorted(targets)),
        trigger=trigger,
    )


def _trigger_image(stage: BehaviourStage) -> str | None:
    """The trigger on a grey image, as a data URI, if the child sent a proper picture."""
    if stage.picture is None:
        return None
    try:
        return png_data_uri(stage.picture)
    except (ValueError, TypeError):
        return None
