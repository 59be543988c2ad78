"""Run every method over one study and join what they say: a rank per sample, a word per class."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from auditor import plugins
from auditor.findings import CheckResult, Finding, Json, Severity
from auditor.poison.interface import (
    FEWEST,
    Floats,
    Labels,
    Mask,
    Method,
    NotApplicable,
    Result,
    Study,
)

MANY_WRONG = 0.02
"""Share of wrong labels at which the set needs a person (below it, any large set has some)."""

_WEIGHTS = {"trigger": 1.0, "reclassification": 0.9, "labels": 0.8, "duplicates": 0.7}
_OTHER_WEIGHT = 0.3


@dataclass(slots=True)
class Examination:
    """The joined outcome.

    `score` (N,) in 0..1 ranks samples; `flagged` (N,) are those to take out; `reasons` say why, by
    index; `suggested` (N,) is a better label or -1. `checks` are the methods' results for the
    report, `verdicts` one word per class: ``clean``, ``poisoned`` or ``not examined``.
    """

    score: Floats
    flagged: Mask
    suggested: Labels
    reasons: dict[int, str]
    checks: list[CheckResult] = field(default_factory=list)
    verdicts: dict[int, str] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """All findings, in the order of the methods."""
        return [f for check in self.checks for f in check.findings]


def methods() -> tuple[tuple[type[Method], ...], tuple[str, ...]]:
    """Every registered method in its order, and a sentence for each broken plug-in."""
    loaded = plugins.load("audit.poison")
    notices = list(loaded.notices)
    good = []
    for plugin in loaded.plugins:
        if isinstance(plugin.value, type) and issubclass(plugin.value, Method):
            good.append(plugin.value)
        else:
            notices.append(f"plug-in {plugin.value!r} of {plugin.origin} is not a Method")
    good.sort(key=lambda m: m.order)
    return tuple(good), tuple(notices)


def examine(
    study: Study,
    chosen: Sequence[type[Method]] | None = None,
    told: Callable[[str], None] = lambda name: None,
) -> Examination:
    """Run `chosen` (default: all) and join. A method that fails is incomplete, never a crash."""
    results: dict[str, Result] = {}
    checks = []
    for kind in chosen if chosen is not None else methods()[0]:
        told(kind.name)
        check, result = _run(kind, study)
        if result is not None:
            results[kind.name] = result
        checks.append(check)
    found = _join(study, results)
    found.checks = [_with_findings(check, study, results, found) for check in checks]
    return found


def _run(kind: type[Method], study: Study) -> tuple[CheckResult, Result | None]:
    started = time.monotonic()
    name = f"data.{kind.name}"
    if study.spent():
        return CheckResult(name, "incomplete", "no time was left for it", 0.0), None
    try:
        result = kind().run(study)
        _check_shape(result, len(study.labels))
    except NotApplicable as reason:
        return CheckResult(name, "skipped", str(reason), time.monotonic() - started), None
    except Exception as error:  # a defect in one method must not hide what the others found
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return CheckResult(name, "incomplete", words, time.monotonic() - started), None
    return (
        CheckResult(
            name,
            "passed",
            "",
            time.monotonic() - started,
            metrics=result.metrics,
            figures=tuple(result.figures),
            notices=tuple(result.notices),
        ),
        result,
    )


def _check_shape(result: Result, count: int) -> None:
    """A plug-in's mistake is told here and not somewhere behind."""
    if result.score.shape != (count,) or result.flagged.shape != (count,):
        raise ValueError(f"score and flagged must have one entry for each of {count} samples")
    if result.flagged.dtype != np.bool_ or not np.isfinite(result.score).all():
        raise ValueError("flagged must be bool and scores finite")


def _join(study: Study, results: dict[str, Result]) -> Examination:
    n = len(study.labels)
    score = np.zeros(n, np.float32)
    flagged = np.zeros(n, bool)
    suggested = np.full(n, -1, np.int64)
    reasons: dict[int, str] = {}
    sweeping = "trigger" in results
    for name, result in results.items():
        weight = _WEIGHTS.get(name, _OTHER_WEIGHT)
        # What the sweep took back from the group it started with is not poison after all.
        withdrawn = sweeping and name == "reclassification"
        takes = np.zeros(n, bool) if withdrawn else result.flagged
        if weight == _OTHER_WEIGHT and not takes.any() and name in ("clustering", "spectral"):
            weight = 0.1
        ranked = np.clip(result.score, 0, 1) * np.float32(0.5 * weight)
        score = np.maximum(score, np.where(takes, 0.5 + ranked, ranked).astype(np.float32))
        for index in np.flatnonzero(takes & ~flagged):
            reasons[int(index)] = result.reasons.get(int(index), result.reason)
        flagged |= takes
        if result.suggested is not None:
            better = takes & (suggested < 0)
            suggested[better] = result.suggested[better]
    found = Examination(score, flagged, suggested, reasons)
    _suggest_for_poison(study, found)
    judged = "reclassification" in results
    for label, count in zip(*np.unique(study.labels, return_counts=True), strict=True):
        word = "clean" if judged and count >= FEWEST else "not examined"
        found.verdicts[int(label)] = "poisoned" if int(label) in study.confirmed else word
    return found


def _suggest_for_poison(study: Study, found: Examination) -> None:
    """What poisoned samples show, by a probe that has forgotten all of them."""
    members = [c.members for c in study.confirmed.values()]
    if not members or study.content is None:
        return
    index = np.unique(np.concatenate(members))
    weights = study.content.forgetting(index)
    shown = (study.content.features[index] @ weights).argmax(axis=1)
    found.suggested[index] = np.where(shown == study.labels[index], -1, shown)


def _with_findings(
    check: CheckResult, study: Study, results: dict[str, Result], found: Examination
) -> CheckResult:
    from dataclasses import replace

    findings: list[Finding] = []
    says = "trigger" if "trigger" in results else "reclassification"
    if check.name == f"data.{says}":
        findings = [_poisoned(study, label) for label in sorted(study.confirmed)]
    elif check.name == "data.labels" and "labels" in results:
        findings = _wrong_labels(results["labels"], found)
    elif check.name == "data.duplicates" and "duplicates" in results:
        findings = _contradictions(results["duplicates"])
    elif check.name == "data.outliers" and "outliers" in results:
        findings = _foreign(results["outliers"])
    if not findings:
        return check
    worst = max(f.severity for f in findings)
    status = "flagged" if worst >= Severity.MEDIUM else check.status
    return replace(check, findings=tuple(findings), status=status)


def _poisoned(study: Study, label: int) -> Finding:
    confirmed = study.confirmed[label]
    return Finding(
        rule="data.poisoned-cluster",
        severity=Severity.HIGH,
        title=f"Training samples labelled {_named(study, label)} carry a backdoor",
        evidence=(
            f"{len(confirmed.members)} of {int((study.labels == label).sum())} samples: "
            f"{confirmed.how}"
        ),
        why="A model trained on them answers this class to whoever knows the trigger.",
        remedy="Take them out (--write-clean DIR writes the set without them) and train again.",
        target_class=label,
    )


def _named(study: Study, label: int) -> str:
    names = study.suspects.classes
    name = names[label] if label < len(names) else str(label)
    return str(label) if name == str(label) else f"{label} ({name})"


def _wrong_labels(result: Result, found: Examination) -> list[Finding]:
    taken = np.flatnonzero(result.flagged)
    wrong = [i for i in taken if found.reasons.get(int(i)) == result.reason]
    if not wrong:
        return []
    share = len(wrong) / len(found.score)
    return [
        Finding(
            rule="data.wrong-labels",
            severity=Severity.MEDIUM if share >= MANY_WRONG else Severity.LOW,
            title=f"{len(wrong)} labels ({share:.2%}) disagree with what the samples show",
            evidence=(
                "cross-validation surely calls them another class; fitted share of random labels: "
                f"{result.metrics['labels.noise_rate']:.2%}"
            ),
            why="Wrong labels cost accuracy, and hide targeted ones.",
            remedy="Look at the list (samples.csv has a suggested label for each) and correct it.",
        )
    ]


def _contradictions(result: Result) -> list[Finding]:
    count = int(result.flagged.sum())
    if not count:
        return []
    return [
        Finding(
            rule="data.contradicting-copies",
            severity=Severity.LOW,
            title=f"{count} samples are copies of a picture with another label",
            evidence="the same pixels, or nearly, stand under different labels",
            why="At most one of the labels is right.",
            remedy="Keep one of each, under the right label.",
        )
    ]


def _foreign(result: Result) -> list[Finding]:
    count = int(result.flagged.sum())
    if not count:
        return []
    return [
        Finding(
            rule="data.foreign",
            severity=Severity.LOW,
            title=f"{count} pictures do not look like the rest of the set",
            evidence="the set's main directions leave far more of them unexplained than usual",
            why="Foreign pictures teach nothing and can be the carrier of a trigger.",
            remedy="Look at them in samples.csv and the montage.",
        )
    ]


def class_rows(study: Study, found: Examination) -> list[dict[str, Json]]:
    """One row a class for the report."""
    rows: list[dict[str, Json]] = []
    for label, word in sorted(found.verdicts.items()):
        mine = study.labels == label
        row: dict[str, Json] = {
            "class": label,
            "samples": int(mine.sum()),
            "flagged": int((found.flagged & mine).sum()),
            "verdict": word,
        }
        confirmed = study.confirmed.get(label)
        if confirmed is not None and confirmed.asr is not None:
            row["transplanted_trigger_asr"] = round(confirmed.asr, 4)
        rows.append(row)
    return rows
