"""Audit one artifact end to end: file, behaviour, verdict, sanitized copy, report.

``scan`` is the public API behind ``audit scan``; it prints nothing. The model is only ever opened
in child processes (`auditor.stages`).
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from auditor.artifacts.recognise import recognise
from auditor.calibration.model import load
from auditor.checks.interface import FileCheck
from auditor.checks.registry import all_checks, chosen
from auditor.conclusion import conclude
from auditor.environment import environment
from auditor.errors import AuditError, UsageError
from auditor.findings import CheckResult, Severity
from auditor.inputs import load_samples, load_training
from auditor.options import ScanOptions
from auditor.policy.model import Policy
from auditor.report.build import build_error, display_path
from auditor.report.model import Report
from auditor.report.registry import problems as format_problems
from auditor.samples.interface import Images
from auditor.samples.npz import from_arrays
from auditor.sandbox.host import Worker
from auditor.sanitizing import sanitize_and_reaudit
from auditor.stages import (
    Told,
    audit_behaviour,
    audit_file,
    cores,
    heavy_worker,
    light_worker,
)
from auditor.work import Work

Arrays = tuple[ArrayLike, ArrayLike]
"""Images and their labels."""

BASE_BUDGET, _PER_CLASS, _MOST_BUDGET = 75.0, 2.0, 150.0
"""Seconds for the behaviour checks at up to ten classes, for each further class, and at most."""

_GRACE = 1.25
"""How far beyond its budget a model's process may run before it is ended."""

_SMALL = 50_000
"""Parameters below which a second thread costs more than it brings."""


def scan(
    path: str | Path,
    data: str | Path | Images | Arrays | None = None,
    options: ScanOptions | None = None,
    *,
    told: Told = lambda what: None,
) -> Report:
    """Audit the model file at `path`, with labelled samples from `data` if given.

    `data` is what ``--data`` takes, or arrays (x, y) as `auditor.samples.npz.from_arrays` reads
    them: images (N, C, H, W), (N, H, W, C) or (N, H, W), uint8 or float, and labels (N,).

    Never raises for what is wrong with the model file or the samples: the report then has an
    ``error`` and exit code 2. Raises `UsageError` for contradictory options and `UnreadableSamples`
    for arrays that are no labelled images. `told` is called with the name of each step as it
    starts.
    """
    options = options or ScanOptions()
    if data is not None:
        given = _from_arrays(data) if isinstance(data, tuple) else data
        options = replace(options, data=given)
    started = time.monotonic()
    model = Path(path)
    try:
        kind = recognise(model)
        # Started first: the child imports its modules while this process imports its own.
        with light_worker(model, options, kind) as light:
            work = _planned(model, options, told)
            _audit(work, light)
    except UsageError:
        raise
    except AuditError as error:
        return build_error(
            display_path(model),
            error,
            environment=environment({}, options.command),
            seed=options.seed,
        )
    return conclude(work, time.monotonic() - started)


def _from_arrays(pair: Arrays) -> Images:
    if len(pair) != 2:
        raise UsageError(f"data must be a pair (images, labels), not {len(pair)} values")
    try:
        x, y = (np.asarray(side) for side in pair)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"data cannot be read as arrays: {error}") from error
    return from_arrays(x, y, "arrays")


def _planned(model: Path, options: ScanOptions, told: Told) -> Work:
    """Which checks run under which policy. Raises `UsageError` for contradictory options."""
    if options.calibration is not None:
        load(options.calibration)  # what is wrong with it is told before minutes of work
    policy = (options.policy or Policy()).with_flags(fail_on=options.fail_on, budget=options.budget)
    if policy.budget is not None:  # a budget beyond the time limit would end as a crash
        options = replace(options, timeout=max(options.timeout, _GRACE * policy.budget))
    every, notices = all_checks()
    selected = chosen((r.check for r in every), options.checks, options.skip)
    said = [*options.notices, *notices, *format_problems()]
    return Work(model, options, policy, selected, told, said)


def _audit(work: Work, light: Worker) -> None:
    with contextlib.ExitStack() as stack:
        behaviour_checks = [c for c in work.checks if not issubclass(c, FileCheck)]
        wanted = work.options.profile != "file" and behaviour_checks
        heavy = stack.enter_context(heavy_worker(work.path, work.options)) if wanted else None
        work.told("file")
        file_checks = [c for c in work.checks if issubclass(c, FileCheck)]
        work.file = audit_file(light, work.path, file_checks)
        work.protections = {k: asdict(v) for k, v in light.protections.items()}
        light.close()
        work.samples = load_samples(work.path, work.options, work.file.description, work.notices)
        work.training = load_training(work.options, work.file.description)
        stop = _why_not_run(work)
        if heavy is None or stop:
            reason = stop or f"not part of --profile {work.options.profile}"
            work.behaviour.results = [
                CheckResult(c.name, "skipped", reason, 0.0) for c in behaviour_checks
            ]
            work.behaviour.reason = reason
            return
        work.told("loading")
        work.behaviour = audit_behaviour(
            heavy,
            work.path,
            behaviour_checks,
            work.samples,
            work.training,
            replace(work.options, jobs=_threads(work)),
            _budget(work),
            work.told,
        )
        work.notices.extend(work.behaviour.notices)
        repair = _repair_wanted(work) if work.behaviour.died is None else ""
        if repair:
            work.told("sanitizing")
            work.sanitized = sanitize_and_reaudit(
                heavy,
                work.path,
                work.behaviour,
                work.samples,
                work.options,
                work.notices,
                graph=repair == "graph",
            )


def _threads(work: Work) -> int:
    """As stated; else one for a small network, where a second thread mostly waits."""
    description = work.file.description
    small = description is not None and description.parameters < _SMALL
    return work.options.jobs or (1 if small else cores())


def _why_not_run(work: Work) -> str:
    """The gate before running: a file that would act on the machine is not loaded."""
    if work.file.died is not None:
        return "not run: the file could not be checked first"
    blocking = [f for r in work.file.results for f in r.findings if f.blocks_run]
    if blocking and not work.options.run_anyway:
        return f"not run: {blocking[0].title} ({blocking[0].rule}); --run-anyway overrides"
    return ""


def _budget(work: Work) -> float:
    """Seconds for the behaviour checks: as stated, else 75 and up to 150 with many classes."""
    if work.policy.budget is not None:
        return work.policy.budget
    classes = work.samples.count_classes if work.samples is not None else 10
    return min(_MOST_BUDGET, BASE_BUDGET + _PER_CLASS * max(0, classes - 10))


def _repair_wanted(work: Work) -> str:
    """``graph`` to cut trigger logic out, ``weights`` to change parameters, or nothing."""
    if work.options.sanitize is False:
        return ""
    asked = bool(work.options.sanitize)
    findings = [f for r in work.results for f in r.findings if f.severity >= Severity.MEDIUM]
    if any(f.rule.startswith("graph.trigger") for f in findings):
        return "graph"
    if any(f.rule.startswith("code.trigger") for f in findings):
        # A repair of weights would leave the gate in place and call the copy clean.
        work.notices.append(
            "Not sanitized: the trigger sits in the code of the file, which is never edited, and "
            "changing weights does not remove it. Take the architecture from a source you trust."
        )
        return ""
    if work.samples is None:
        return "weights" if asked else ""
    behaviour = [f for r in work.behaviour.results for f in r.findings]
    suspicious = any(
        f.severity >= Severity.MEDIUM and f.target_class is not None for f in behaviour
    )
    return "weights" if asked or suspicious else ""
