"""Audit a training set: read it, get activations from the sandboxed model, examine, report.

``audit_data`` is the engine behind ``audit data``. It prints and writes nothing. The model is only
opened in a child process; without a model a small network of our own stands in.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.artifacts.interface import Description
from auditor.artifacts.recognise import recognise
from auditor.checks.interface import FileCheck
from auditor.checks.registry import all_checks
from auditor.environment import environment
from auditor.errors import UnreadableSamples, UnsupportedArtifact
from auditor.findings import CheckResult, Metric
from auditor.inputs import to_wire
from auditor.options import ScanOptions
from auditor.poison.engine import Examination, class_rows, examine, methods
from auditor.poison.interface import Study, Suspects
from auditor.policy.evaluate import evaluate
from auditor.policy.model import Policy
from auditor.report.build import About, Parts, build_report, display_path
from auditor.report.model import Backdoor, Report, SamplesRecord
from auditor.samples.ordered import Ordered, read_ordered
from auditor.sandbox.host import Worker
from auditor.stages import audit_file, cores, heavy_worker, light_worker, overrides_to_wire
from auditor.verdict import decide

CHUNK = 2_000
_INFER = 400
_FEWEST = 10


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


@dataclass(slots=True)
class _Asked:
    """What the model said about the whole set."""

    activations: NDArray[np.float32]
    scores: NDArray[np.float32]
    predict: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    order: NDArray[np.int64]
    notices: list[str] = field(default_factory=list)
    protections: dict[str, Any] = field(default_factory=dict)


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
            asked = _own(suspects, options)
        else:
            told("activations")
            asked = stack.enter_context(_ask(model, data, options))
            suspects = replace(suspects, labels=asked.order[data.labels])
        study = Study(
            suspects,
            _finite(asked.activations),
            _finite(asked.scores),
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


def _own(suspects: Suspects, options: ScanOptions) -> _Asked:
    from auditor.poison.own_model import train_own

    count = int(suspects.labels.max()) + 1
    if suspects.labels.min() == suspects.labels.max():
        # One class teaches nothing; the methods that need two say so themselves.
        blank = np.zeros((len(suspects), 1), np.float32)
        scores = np.zeros((len(suspects), count), np.float32)
        scores[:, -1] = 1.0

        def same(images: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.repeat(scores[:1], len(images), axis=0)

        return _Asked(blank, scores, same, np.arange(count))
    with _threads(options):
        activations, scores, predict = train_own(suspects, options.seed)
    notice = "No model was given: a small network of our own was trained on the set instead."
    return _Asked(activations, scores, predict, np.arange(count), [notice])


@contextlib.contextmanager
def _threads(options: ScanOptions) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(options.jobs or cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _ask(model: Path, data: Ordered, options: ScanOptions) -> Iterator[_Asked]:
    """Open the model in its child, stream the set through it, keep it to be asked again."""
    with heavy_worker(model, options) as worker:
        order, notices = _open(worker, model, data, options)
        features, scores = [], []
        for start in range(0, len(data), CHUNK):
            message = worker.result(
                "activations", {"features": True}, {"pixels": data.pixels[start : start + CHUNK]}
            )
            features.append(np.asarray(message.arrays["features"], np.float32))
            scores.append(np.asarray(message.arrays["scores"], np.float32))

        def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
            parts = [
                worker.result("activations", {}, {"pixels": images[s : s + CHUNK]}).arrays["scores"]
                for s in range(0, len(images), CHUNK)
            ]
            return np.asarray(np.nan_to_num(np.concatenate(parts)), np.float32)

        told = {name: vars_of(value) for name, value in worker.protections.items()}
        yield _Asked(
            np.concatenate(features), np.concatenate(scores), predict, order, notices, told
        )


def vars_of(value: Any) -> dict[str, Any]:
    """A protection as JSON."""
    from dataclasses import asdict

    return asdict(value)


def _open(
    worker: Worker, model: Path, data: Ordered, options: ScanOptions
) -> tuple[NDArray[np.int64], list[str]]:
    few = np.sort(_balanced(data.labels, _INFER, options.seed))
    about, arrays = to_wire(data.images(few), "samples")
    params = {
        "path": str(model.absolute()),
        "seed": options.seed,
        "threads": options.jobs or cores(),
        "device": options.device,
        "overrides": overrides_to_wire(options),
        **about,
    }
    body = worker.result("activations", params, arrays).body
    if body.get("reason"):
        raise UnsupportedArtifact(f"{model.name}: {body['reason']}")
    order = np.arange(int(data.labels.max()) + 1)
    for own, models in zip(body["labels"], body["model_labels"], strict=True):
        order[int(own)] = int(models)
    classes = int(body["session"]["classes"])
    if int(data.labels.max()) >= classes:
        raise UnreadableSamples(
            f"{data.source} has labels up to {int(data.labels.max())} but the model has only "
            f"{classes} classes: wrong data or wrong label file"
        )
    return order, [str(n) for n in body["notices"]]


def _balanced(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        rank[mine] = np.arange(len(mine))
    return order[np.argsort(rank[order], kind="stable")][:count]


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A model may answer with anything; what is not finite becomes zero or very large."""
    return np.clip(np.nan_to_num(values), -1e6, 1e6)


def _report(
    source: str | Path,
    model: Path | None,
    data: Ordered,
    study: Study,
    found: Examination,
    asked: _Asked,
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
