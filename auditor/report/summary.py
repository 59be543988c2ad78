"""What a reader needs first, worked out once for all views: verdict, why, what to do, limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from auditor.report.model import CheckRecord, FindingRecord, Report
from auditor.report.text import number, percent, plural, visible

SEVERITIES = ("critical", "high", "medium", "low", "info")

_SENTENCES = {
    "pass": "Nothing of concern was found by the checks that ran.",
    "review": "A person should look before this model is used.",
    "fail": "Do not use this model as it is.",
    "incomplete": "The audit could not finish, so this model is not cleared.",
}

_OF_DATA = {
    "pass": "Nothing of concern was found in this training set by the methods that ran.",
    "review": "A person should look at this training set before it is used.",
    "fail": "Do not train on this set as it is, and do not use a model trained on it.",
    "incomplete": "The audit could not finish, so this training set is not cleared.",
}

LIMITS = (
    "A pass means that these checks found nothing, not that nothing is there.",
    "A trigger outside the probed and searched families (one drawn in the physical world, one that "
    "depends on the content of each image, or one needing several conditions at once) can stay "
    "unseen.",
    "An attacker who knows these checks can train against them: keep activations of clean and "
    "triggered images together, spread the trigger thinly, or make reconstruction fail.",
    "Robustness under an attack is an upper bound: a stronger or adaptive attack can do worse.",
    "Accuracy and attack rates hold for samples like the ones given; other data can differ.",
    "The file was audited, not the code around it: preprocessing, serving and updates can add "
    "their own weaknesses.",
)
"""What an adaptive attacker could still hide: printed in every long view."""


@dataclass(frozen=True, slots=True)
class Headline:
    """The first screen of any view."""

    verdict: str
    sentence: str
    reasons: tuple[str, ...]
    actions: tuple[str, ...]


def headline(report: Report) -> Headline:
    """The verdict in words, the reasons, and what to do next, most urgent first."""
    if report.error is not None:
        sentence = "This file could not be audited."
        return Headline("incomplete", sentence, (report.error.message,), _ERROR_ACTIONS)
    sentences = _OF_DATA if report.artifact.format == "training data" else _SENTENCES
    return Headline(
        report.verdict,
        sentences[report.verdict],
        report.reasons,
        tuple(dict.fromkeys(_actions(report))),
    )


_ERROR_ACTIONS = (
    "Check the path and the format; `audit inspect` tells what the file is.",
    "Do not load it with other tools before you know what it is.",
)


def _actions(report: Report) -> list[str]:
    actions = [f.remedy for f in report.findings if f.severity in ("critical", "high")]
    if report.verdict in ("review", "incomplete"):
        actions.extend(f.remedy for f in report.findings if f.severity == "medium")
    actions = [a for a in dict.fromkeys(actions) if a][:4]
    if report.sanitized is not None:
        actions.append(
            f"A sanitized copy is at {report.sanitized.path}: compare before and after, then audit "
            "the copy like any other model."
        )
    if report.verdict == "incomplete":
        actions.append("Run again with a larger --budget, or see why each check could not finish.")
    if report.samples is None and report.error is None:
        actions.append("Audit again with labelled samples (--data DIR) to judge its behaviour.")
    if report.verdict == "pass":
        actions.append("Keep this report with the model, and read what an audit cannot see.")
    return actions


def severity_counts(report: Report) -> dict[str, int]:
    """Active findings by severity, worst first, zeros included."""
    counts: Counter[str] = Counter(f.severity for f in report.findings)
    return {word: counts[word] for word in SEVERITIES}


def counts_sentence(report: Report) -> str:
    """``1 high, 2 low`` or ``no findings``."""
    parts = [f"{n} {word}" for word, n in severity_counts(report).items() if n]
    return ", ".join(parts) or "no findings"


def coverage_sentence(report: Report) -> str:
    """How many checks ran, flagged, were skipped or could not finish."""
    counts: Counter[str] = Counter(c.status for c in report.checks)
    words = ("passed", "flagged", "skipped", "incomplete")
    parts = [f"{counts[w]} {w}" for w in words if counts[w]]
    return f"{plural(len(report.checks), 'check')}: {', '.join(parts) or 'none'}"


def backdoor_sentence(report: Report) -> str:
    """One line on backdoor evidence."""
    found = report.backdoor
    if not found.target_classes and found.trigger is None:
        if not was_run(report):
            return "not examined: the model was not run"
        words = probability_words(report)
        return f"no backdoor evidence, {words}" if words else "no backdoor evidence"
    targets = ", ".join(class_label(report, t) for t in found.target_classes) or "unknown"
    line = f"target class {targets}"
    if found.trigger is not None:
        line += f", {found.trigger.family} trigger, success rate {percent(found.trigger.asr)}"
    if found.probability is not None:
        line += f", {probability_words(report)}"
    return line


def probability_words(report: Report) -> str:
    """``probability 0.91 (0.80 to 0.97), outside calibration``; never a bare number."""
    found = report.backdoor
    if found.probability is None:
        return ""
    low, high = found.interval or (0.0, 1.0)
    words = f"probability {found.probability:.2f} ({low:.2f} to {high:.2f})"
    return words + (", outside calibration" if found.outside_calibration else "")


def probability_sentence(report: Report) -> str:
    """The probability, what lies outside its calibration, and how it was made; or why none."""
    found = report.backdoor
    if found.probability is None:
        return found.calibration
    outside = "; ".join(found.outside_calibration)
    parts = [probability_words(report) + (f": {outside}" if outside else ""), found.calibration]
    return "; ".join(part for part in parts if part)


def was_run(report: Report) -> bool:
    """Whether the model answered anything, so that "none seen" means that somebody looked."""
    measured = any(name.startswith(_BEHAVIOUR) for name in report.metrics)
    return measured and not any(f.blocks_run for f in report.findings)


_BEHAVIOUR = ("accuracy.", "probe.", "probing.", "inversion.", "backdoor.", "robustness.")


def class_label(report: Report, index: int) -> str:
    """``3 (cat)`` when the samples name their classes, else ``3``."""
    names = report.samples.classes if report.samples else ()
    if 0 <= index < len(names) and names[index] != str(index):
        return f"{index} ({names[index]})"
    return str(index)


def finding_place(report: Report, finding: FindingRecord) -> str:
    """Where: a location, a target class, both or nothing."""
    parts = [finding.location or ""]
    if finding.target_class is not None:
        parts.append(f"class {class_label(report, finding.target_class)}")
    return ", ".join(p for p in parts if p)


def result_line(check: CheckRecord, most: int = 4) -> str:
    """What a check says in one line: its reason, else its first numbers (not those of a grid)."""
    if check.reason:
        return visible(check.reason)
    shown = [
        f"{visible(name, 40)} {number(value)}"
        for name, value in check.metrics.items()
        if isinstance(value, bool | int | float) and "@" not in name
    ]
    more = f" (+{len(shown) - most} more)" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
