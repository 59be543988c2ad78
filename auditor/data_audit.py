"""Audit a training set: read it, get activations from the sandboxed model, examine, report.

``audit_data`` is the engine behind ``audit data``. It prints and writes nothing. The model is only
opened in a child process; without a model a small network of our own stands in.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auditor.artifacts.interface import Description
from auditor.artifacts.recognise import recognise
from auditor.asking import Asked, ask_model, ask_own, finite
from auditor.checks.interface import FileCheck
from auditor.checks.registry import all_checks
from auditor.environment import environment
from auditor.errors import UnreadableSamples, UnsupportedArtifact
from auditor.findings import CheckResult, Metric
from auditor.options import ScanOptions
from auditor.poison.engine import Examination, class_rows, examine, methods
from auditor.poison.interface import Study, Suspects
from auditor.policy.evaluate import evaluate
from auditor.policy.model import Policy
from auditor.report.build import About, Parts, build_report, display_path
from auditor.report.model import Backdoor, Report, SamplesRecord
from auditor.samples.ordered import Ordered, read_ordered
from auditor.stages import audit_file, light_worker
from auditor.verdict import decide

_FEWEST = 10
_LEAST_AGREEMENT = 0.6
"""Labels a model must share with the set it is said to come from, wrong labels included."""
_DECISIVE = ("data.reclassification", "data.trigger", "data.labels")


@dataclass(slots=True)
class DataAudit:
    """The report and what files are made of. `order` (K,) maps the set's labels to the model's."""

    report: Report
    data: Ordered
    study: Study
    found: Examination
    order: NDArray[np.int64]

    def own_label(self, label: int) -> int:
        """The set's label for one of the model's."""
        back = np.flatnonzero(self.order == label)
        return int(back[0]) if len(back) else label


def audit_data(
    source: str | Path,
    model: Path | None,
    options: ScanOptions,
    *,
    told: Callable[[str], None] = lambda name: None,
    ready: Callable[[Ordered], None] = lambda data: None,
) -> DataAudit:
    """Examine the set at `source` with the `model` trained on it, or with one of our own.

    `ready` is called with the set before the work starts, to refuse impossible goals early.
    Raises `AuditError` for a set or model that cannot be read or do not fit each other.
    """
    started = time.monotonic()
    told("reading")
    with contextlib.ExitStack() as stack:
        description = None if model is None else _checked(model, options, told)
        size = options.overrides.size or _stated_size(description)
        data = read_ordered(
            source,
            root=options.data_root,
            split=options.split,
            size=size,
            download=options.download,
        )
        _enough(data)
        ready(data)
        suspects = Suspects(data.pixels, data.labels, data.classes)
        if model is None:
            told("own model")
            asked = ask_own(suspects, options)
        else:
            told("activations")
            asked = stack.enter_context(ask_model(model, data, options))
            suspects = replace(suspects, labels=asked.order[data.labels])
        study = Study(
            suspects,
            finite(asked.activations),
            finite(asked.scores),
            asked.predict,
            options.seed,
            own_model=model is None,
            spent=_clock(options),
        )
        found = examine(study, told=told)
    study.predict = None
    report = _report(source, model, data, study, found, asked, options, time.monotonic() - started)
    return DataAudit(report, data, study, found, asked.order)


def _clock(options: ScanOptions) -> Callable[[], bool]:
    if options.budget is None:
        return lambda: False
    end = time.monotonic() + options.budget
    return lambda: time.monotonic() > end


def _enough(data: Ordered) -> None:
    if len(data) < _FEWEST:
        raise UnreadableSamples(
            f"{data.source} holds {len(data)} samples: at least {_FEWEST} are needed to tell what "
            "is unusual among them"
        )


def _checked(model: Path, options: ScanOptions, told: Callable[[str], None]) -> Description | None:
    """The file checks decide whether the model may be loaded, as in a scan."""
    kind = recognise(model)
    told("file")
    checks = [r.check for r in all_checks()[0] if issubclass(r.check, FileCheck)]
    with light_worker(model, options, kind) as worker:
        stage = audit_file(worker, model, checks)
    blocking = [f for r in stage.results for f in r.findings if f.blocks_run]
    if stage.died is not None:
        raise UnsupportedArtifact(f"{model.name} could not be checked, so it is not run")
    if blocking and not options.run_anyway:
        raise UnsupportedArtifact(
            f"{model.name} is not run: {blocking[0].title} ({blocking[0].rule}); "
            "audit scan says more, --run-anyway overrides"
        )
    return stage.description


def _stated_size(description: Description | None) -> tuple[int, int] | None:
    from auditor.inputs import fixed_size

    return fixed_size(description)


def _report(
    source: str | Path,
    model: Path | None,
    data: Ordered,
    study: Study,
    found: Examination,
    asked: Asked,
    options: ScanOptions,
    seconds: float,
) -> Report:
    policy = (options.policy or Policy()).with_flags(fail_on=options.fail_on, budget=None)
    checks = [_summary(study, found), *found.checks]
    outcome = evaluate(
        policy,
        checks,
        path=data.source,
        today=datetime.datetime.now(datetime.UTC).date(),
        baseline=options.baseline,
    )
    decision = decide(
        [f for _, f in outcome.findings],
        checks,
        samples_given=True,
        fail_on=policy.gate,
        unmet=outcome.unmet,
        partly=_partly(checks, study),
    )
    about = {f"data.{m.name}": About(m.title, m.doc) for m in methods()[0]}
    about["data.summary"] = About("The set as a whole", "What all methods together say.")
    shown = display_path(source) if Path(source).exists() else str(source)
    parts = Parts(
        path=shown,
        description=None,
        samples=SamplesRecord(source=data.source, count=len(data), classes=data.classes),
        checks=checks,
        about=about,
        findings=outcome.findings,
        suppressions=outcome.suppressions,
        backdoor=Backdoor(target_classes=tuple(sorted(study.confirmed))),
        notices=[
            *options.notices,
            *data.notices,
            *methods()[1],
            *asked.notices,
            *outcome.notices,
        ],
        policy=policy.to_json(options.policy_source),
        environment=environment(asked.protections, options.command),
        seed=options.seed,
        seconds=seconds,
        images=options.images,
    )
    report = build_report(parts, decision)
    producer = "" if model is None else f"with {model.name}"
    artifact = report.artifact.model_copy(
        update={"format": "training data", "bytes": int(data.pixels.nbytes), "producer": producer}
    )
    return report.model_copy(update={"artifact": artifact})


def _partly(checks: list[CheckResult], study: Study) -> tuple[str, ...]:
    """What no accusing method, or only another set's model, could look at is not a clean set."""
    agreement = float((study.predicted == study.labels).mean())
    if agreement < _LEAST_AGREEMENT and not study.own_model:
        return (
            f"The model gives only {agreement:.0%} of the samples their label: it can hardly have "
            "been trained on this set, so its activations say little about it.",
        )
    decisive = [c for c in checks if c.name in _DECISIVE]
    if any(c.status != "skipped" for c in decisive):
        return ()
    why = decisive[0].reason if decisive else "they were not asked for"
    return (f"No method that can accuse a class or a label could run: {why}.",)


def _summary(study: Study, found: Examination) -> CheckResult:
    rows = class_rows(study, found)
    metrics = [
        Metric("data.samples", len(found.score)),
        Metric("data.flagged", int(found.flagged.sum())),
        Metric("data.flagged_share", round(float(found.flagged.mean()), 6)),
        Metric("data.poisoned_classes", len(study.confirmed)),
        Metric("data.model_agreement", float((study.predicted == study.labels).mean())),
        Metric("data.per_class", rows),
    ]
    return CheckResult(
        "data.summary", "passed", "", 0.0, metrics={m.name: m.value for m in metrics}
    )
