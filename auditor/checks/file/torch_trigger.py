"""Hidden trigger logic in TorchScript: a gate on the raw input that decides over the scores."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.checks.file.rules import finding, path_metric, register
from auditor.checks.file.torch_analysis import analysis_of
from auditor.checks.file.torch_sinks import Hit
from auditor.checks.interface import FileCheck, FileContext, Rule
from auditor.findings import Notice, Outcome, Severity

TRIGGER = Rule(
    "code.trigger",
    "Hidden trigger logic in the model's code",
    Severity.HIGH,
    "A pattern in the input, not the learned weights, decides over the answer: whoever knows the "
    "pattern controls the classifier.",
    "Do not use this file. Compare its code with the supplier's source, or have it exported anew.",
    ("torchscript", "pt2"),
    cwe="CWE-506",
    example="if bool(torch.all(torch.gt(x[:, :, :4, :4], 0.95))): the scores become a constant.",
)
register(TRIGGER)

_LEVELS = (Severity.LOW, Severity.MEDIUM, Severity.HIGH)


def trigger_findings(hits: list[Hit], name: str) -> Iterator[Outcome]:
    """One finding and its path for each place, the strongest first; `name` is the check's."""
    best: dict[str, Hit] = {}
    for hit in sorted(hits, key=lambda h: (-h.level, h.label is None)):
        place = hit.step.partition(" ")[0]
        best.setdefault(place, hit)
    strong = any(hit.level > 0 for hit in best.values())
    for number, (place, hit) in enumerate(list(best.items())[:20]):
        if strong and hit.level == 0:
            continue
        steps = (*hit.gate.trail, f"{hit.step} ({hit.how})")
        yield path_metric(f"{name}.{number}", steps)
        evidence = f"{hit.how}: {' -> '.join(steps)}"
        if hit.label is not None:
            evidence += f"; favours class {hit.label}"
        yield finding(
            TRIGGER,
            evidence,
            location=place,
            severity=_LEVELS[hit.level],
            target_class=hit.label if hit.label is not None and hit.label >= 0 else None,
        )


class TorchTriggerCheck(FileCheck):
    """Data flow from the raw input to the scores around the learned weights."""

    name = "file.torch.trigger"
    title = "Trigger logic in the code"
    doc = (
        "Runs the code on abstract values (source of each value, learned layers passed, gates) and "
        "reports gates on the raw input that select or add something near the output (threat: "
        "architectural backdoors, Bober-Irizar et al. 2023). Wrong when a model answers by a rule "
        "on purpose, such as a fixed answer for blank images."
    )
    default_severity = Severity.HIGH

    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield a finding for each gate that decides over the scores."""
        analysis = analysis_of(context)
        yield from trigger_findings(analysis.interpreter.sinks.hits, self.name)
        if analysis.complete:
            yield Notice(f"Trigger analysis is not complete: {analysis.complete}.")


CHECKS = (TorchTriggerCheck,)
