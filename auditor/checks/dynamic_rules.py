"""The rules that behaviour checks, the policy and the sandbox raise, for ``audit explain``.

Severity, evidence and remedy of such a finding depend on what was measured; what is said here is
the general part. Static rules live with their checks (`auditor.checks.file.rules`).
"""

from __future__ import annotations

from auditor.checks.interface import Rule
from auditor.findings import Severity

_ANY = ("onnx", "torchscript", "pt2")
_RETRAIN = "Do not deploy it. Retrain from trusted data, or use the sanitized copy after review."
_CAUSE = "Do not deploy it before the cause is known; raise the limit if the model is only large."
_DEATH = (
    "A model that crashes, hangs or exhausts the process that opens it can do the same to the "
    "service it is deployed in; it also kept the audit from finishing."
)


def _rule(rule: str, severity: Severity, title: str, why: str, remedy: str) -> Rule:
    return Rule(rule, title, severity, why, remedy, _ANY)


DYNAMIC_RULES: tuple[Rule, ...] = (
    _rule(
        "probe.trigger",
        Severity.HIGH,
        "A known trigger sends images to one class",
        "Whoever knows the trigger decides what the model answers (all-to-one backdoor).",
        _RETRAIN,
    ),
    _rule(
        "inversion.all-to-all",
        Severity.MEDIUM,
        "One small patch moves every class by the same number of places",
        "A clean network has no reason to do so: this is an all-to-all backdoor.",
        _RETRAIN,
    ),
    _rule(
        "inversion.trigger",
        Severity.HIGH,
        "A trigger search found one class far easier to reach than the others",
        "Clean networks do not show such a gap; a backdoor leaves it.",
        _RETRAIN,
    ),
    _rule(
        "consensus.probable",
        Severity.MEDIUM,
        "Several weak signs together make a backdoor probable",
        "The calibrated probability is high although no single search found a clear trigger.",
        "Ask where the model came from; audit again with more samples.",
    ),
    _rule(
        "graph.trigger-confirmed",
        Severity.CRITICAL,
        "An input that opens a gate in the graph was found and changes the class",
        "The hidden path in the graph works: the picture in the report triggers it.",
        "Do not deploy it. Take the architecture from a source you trust.",
    ),
    _rule(
        "data.poisoned-cluster",
        Severity.HIGH,
        "A class of the training data carries a backdoor",
        "A model trained on these samples answers the class to whoever knows the trigger.",
        "Take them out (`audit data DATA --write-clean DIR`) and train again.",
    ),
    _rule(
        "data.wrong-labels",
        Severity.MEDIUM,
        "Labels of the training data disagree with what the samples show",
        "Wrong labels cost accuracy, and hide targeted ones. Below 2 % of the set it is low.",
        "Look at the list (samples.csv has a suggested label for each) and correct it.",
    ),
    _rule(
        "data.contradicting-copies",
        Severity.LOW,
        "Copies of one picture stand under different labels",
        "At most one of the labels is right.",
        "Keep one of each, under the right label.",
    ),
    _rule(
        "data.foreign",
        Severity.LOW,
        "Pictures of the training data do not look like the rest",
        "Foreign pictures teach nothing and can carry a trigger.",
        "Look at them in samples.csv and the montage.",
    ),
    _rule(
        "data-free.margin",
        Severity.LOW,
        "From noise, one class reaches a far larger margin than all others",
        "Backdoor targets often do (MM-BD, Wang et al. 2024); some clean networks as well.",
        "Audit it again with labelled samples.",
    ),
    _rule(
        "robustness.low",
        Severity.INFO,
        "Small changes break the model",
        "Ordinary training gives no robustness; where inputs can be chosen, it matters.",
        "Train adversarially where attackers choose inputs; set a policy threshold.",
    ),
    _rule(
        "robustness.masking",
        Severity.MEDIUM,
        "The robustness figures are not to be trusted",
        "The gradients mislead the attacks, so the true robustness is lower than measured.",
        "Judge it by the black-box and worst-case figures.",
    ),
    _rule(
        "policy.threshold",
        Severity.HIGH,
        "A measured value does not satisfy the policy",
        "The policy says what this model must reach to be used.",
        "Improve the model, or change the threshold on purpose.",
    ),
    _rule(
        "policy.expired",
        Severity.HIGH,
        "A suppression in the policy has expired",
        "What was accepted for a time counts again.",
        "Look at the finding again; renew the suppression with a reason, or remove it.",
    ),
    _rule("sandbox.crash", Severity.MEDIUM, "The model crashed the process", _DEATH, _CAUSE),
    _rule("sandbox.timeout", Severity.MEDIUM, "The model took too long", _DEATH, _CAUSE),
    _rule("sandbox.memory", Severity.MEDIUM, "The model needed too much memory", _DEATH, _CAUSE),
    _rule("sandbox.protocol", Severity.MEDIUM, "The model's process sent nonsense", _DEATH, _CAUSE),
)
