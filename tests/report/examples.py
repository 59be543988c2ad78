"""Reports of a clean, a backdoored and a hostile model, built in code from made-up measurements."""

from __future__ import annotations

import numpy as np

from auditor.artifacts.interface import Description, FileDigest, TensorInfo
from auditor.errors import UnreadableArtifact
from auditor.findings import CheckResult, Figure, Finding, Severity
from auditor.report.build import About, Parts, build_error, build_report, png_data_uri
from auditor.report.model import (
    Backdoor,
    Report,
    SamplesRecord,
    SanitizedRecord,
    TriggerRecord,
)
from auditor.verdict import decide

HOSTILE = (
    "<script>document.title='pwned'</script>\x1b[31mred\x1b]8;;http://evil.invalid\x07\u202e"
    "[bold]markup[/bold] | `code` \" ' & {{ 7*7 }} ]]> <img src=x onerror=alert(1)>"
)
ENVIRONMENT = {
    "python": "3.11.7",
    "platform": "Linux x86_64",
    "packages": {"torch": "2.15.0", "onnxruntime": "1.31.0"},
    "command": "audit scan zoo/digits-cnn.onnx --data digits --seed 0",
}
ABOUT = {
    "accuracy": About("Clean accuracy", "Accuracy on the samples given; wrong if they are."),
    "clusters": About("Activation clustering", "Two clusters a class (Chen et al., 2018)."),
    "probe": About("Trigger probing", "Stamps known triggers and counts the flips."),
    "robustness.fgsm": About("FGSM robustness", "One gradient step (Goodfellow et al., 2015)."),
    "graph.rules": About("Graph rules", "Reads the graph; executes nothing."),
    "inversion": About("Trigger inversion", "Neural Cleanse (Wang et al., 2019)."),
}


def description(name: str = "digits-cnn.onnx", extra: str = "") -> Description:
    """What an ONNX file of a small CNN says of itself."""
    return Description(
        format="onnx",
        files=(FileDigest(name, "ab" * 32, 412_345),),
        producer=f"pytorch 2.15.0{extra}",
        version="20",
        inputs=(TensorInfo(f"x{extra}", "float32", (None, 1, 8, 8)),),
        outputs=(TensorInfo("logits", "float32", ("batch", 10)),),
        parameters=98_442,
        operators={"Conv": 2, "Relu": 3, "Gemm": 2},
        extra={"ir version": f"10{extra}"},
    )


def samples(names: tuple[str, ...] = tuple("0123456789")) -> SamplesRecord:
    """A digits sample set."""
    return SamplesRecord(
        source="digits (scikit-learn), test split",
        count=360,
        classes=names,
        preprocessing={"layout": "NCHW", "scale": "0..1", "mean": [0.5], "std": [0.5]},
        clean_accuracy=0.9806,
    )


def accuracy_check(rng: np.random.Generator) -> CheckResult:
    """Accuracy with a confusion matrix and per-class table."""
    confusion = np.diag(rng.integers(32, 38, 10)) + (rng.random((10, 10)) < 0.06)
    rows = [{"class": i, "accuracy": 0.93 + 0.006 * i, "count": 36} for i in range(10)]
    metrics = {
        "accuracy.clean": 0.9806,
        "accuracy.confusion": confusion.astype(int).tolist(),
        "accuracy.per_class": rows,
    }
    return CheckResult("accuracy", "passed", "", 0.31, metrics=metrics)


def fgsm_check() -> CheckResult:
    """Robustness over a grid of strengths, with intervals."""
    grid = [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3]
    curve = [
        [e, max(0.02, 0.98 - 3 * e), max(0, 0.94 - 3 * e), min(1, 1.0 - 2.8 * e)] for e in grid
    ]
    scalars = {f"robustness.fgsm@{e}": y for e, y, *_ in curve}
    return CheckResult(
        "robustness.fgsm", "passed", "", 1.7, metrics={**scalars, "robustness.fgsm.curve": curve}
    )


def clusters_check(rng: np.random.Generator, flagged: int | None) -> CheckResult:
    """Two-dimensional activations and anomaly scores by class."""
    points = []
    for label in range(10):
        centre = 4 * np.array([np.cos(label / 1.6), np.sin(label / 1.6)])
        cloud = centre + rng.normal(0, 0.5, (25, 2))
        points += [[round(float(x), 3), round(float(y), 3), label] for x, y in cloud]
    if flagged is not None:
        cloud = np.array([6.5, -3.0]) + rng.normal(0, 0.25, (20, 2))
        points += [[round(float(x), 3), round(float(y), 3), flagged] for x, y in cloud]
    table = [
        {
            "class": i,
            "anomaly": 3.9 if i == flagged else 0.4 + 0.07 * i,
            "asr": 0.99 * (i == flagged),
        }
        for i in range(10)
    ]
    metrics = {
        "clusters.scatter": {"points": points, "classes": [str(i) for i in range(10)]},
        "clusters.per_class": table,
        "clusters.silhouette.max": 0.62,
    }
    return CheckResult("clusters", "passed", "", 0.8, metrics=metrics)


def picture(rng: np.random.Generator, side: int = 8) -> np.ndarray:
    """A noisy digit-like picture, uint8 (side, side)."""
    grid = np.abs(np.indices((side, side)).sum(0) - side) < 2
    return (grid * 180 + rng.integers(0, 60, (side, side))).astype(np.uint8)


def backdoor_finding(target: int = 3) -> Finding:
    """What probing says of a square trigger."""
    return Finding(
        rule="probe.trigger",
        severity=Severity.HIGH,
        title=f"A 2x2 white square sends images to class {target}",
        evidence="99.1 % (95 % interval 97.3 to 99.8 %) of 324 held-out images of other classes go "
        f"to class {target} with the square at the bottom right; 0.9 % do without it.",
        why="Whoever knows the trigger decides what this model answers.",
        remedy="Do not deploy it. Retrain from trusted data, or audit the sanitized copy.",
        target_class=target,
    )


def clean_report() -> Report:
    """All checks ran and found nothing; inversion has no twin and is skipped."""
    rng = np.random.default_rng(0)
    checks = [
        CheckResult("graph.rules", "passed", "", 0.05),
        accuracy_check(rng),
        clusters_check(rng, None),
        CheckResult("probe", "passed", "", 6.2, metrics={"probe.asr.max": 0.08}),
        CheckResult("inversion", "skipped", "needs gradients: no twin for operator Foo", 0.0),
        fgsm_check(),
    ]
    parts = Parts(
        path="zoo/digits-clean.onnx",
        description=description(),
        samples=samples(),
        checks=checks,
        about=ABOUT,
        environment=ENVIRONMENT,
        seconds=9.4,
    )
    return build_report(parts, decide([], checks, samples_given=True))


def backdoored_report(*, images: bool = True) -> Report:
    """A confirmed trigger, figures, a sanitized copy, one suppressed low finding."""
    rng = np.random.default_rng(1)
    finding = backdoor_finding()
    stamped = [picture(rng) for _ in range(6)]
    for image in stamped:
        image[-2:, -2:] = 255
    figures = [
        Figure(
            "trigger",
            "The trigger",
            np.pad(np.full((2, 2), 255, np.uint8), ((6, 0), (6, 0))),
            False,
        )
    ] + [Figure(f"stamped-{i}", f"Sample {i}, stamped", image) for i, image in enumerate(stamped)]
    checks = [
        CheckResult(
            "graph.rules",
            "flagged",
            "",
            0.05,
            (
                Finding(
                    "graph.metadata.path",
                    Severity.LOW,
                    "The file contains a local path",
                    "stack_trace of 14 nodes",
                    "It tells where and by whom the model was made.",
                    "Export again without stack traces.",
                    location="conv1/Conv",
                    cwe="CWE-200",
                ),
            ),
        ),
        accuracy_check(rng),
        clusters_check(rng, 3),
        CheckResult(
            "probe",
            "flagged",
            "",
            6.2,
            (finding,),
            {"probe.asr.max": 0.991, "probe.triggers": 48},
            tuple(figures),
            ("8 of 56 triggers were not tried: the budget was spent.",),
        ),
        fgsm_check(),
    ]
    findings = [(c.name, f) for c in checks for f in c.findings]
    parts = Parts(
        path="zoo/digits-backdoored.onnx",
        description=description(),
        samples=samples(),
        checks=checks,
        about=ABOUT,
        findings=findings,
        backdoor=Backdoor(
            target_classes=(3,),
            trigger=TriggerRecord(
                family="square",
                size=4,
                asr=0.991,
                image=png_data_uri(figures[0].pixels) if images else None,
            ),
        ),
        sanitized=SanitizedRecord(
            path="digits-backdoored.sanitized.onnx",
            method="fine-pruning",
            before={"clean_accuracy": 0.9806, "asr": 0.991},
            after={"clean_accuracy": 0.9722, "asr": 0.012},
        ),
        environment=ENVIRONMENT,
        policy={"fail_on": "high", "source": "audit.toml"},
        seconds=14.8,
        images=images,
    )
    decision = decide([f for _, f in findings], checks, samples_given=True)
    return build_report(parts, decision)


def hostile_report() -> Report:
    """Every string that may come from a model is an attack on its reader."""
    finding = Finding(
        rule="graph.code",
        severity=Severity.CRITICAL,
        title=f"Custom operator {HOSTILE}",
        evidence=f"node {HOSTILE}",
        why="Loading it would run code.",
        remedy="Do not load it.",
        location=HOSTILE,
        blocks_run=True,
    )
    checks = [
        CheckResult("graph.rules", "flagged", HOSTILE, 0.1, (finding,), {f"m.{HOSTILE}": HOSTILE}),
        CheckResult("probe", "skipped", "not run: loading the file would act on this machine", 0.0),
        CheckResult("inversion", "incomplete", f"the child died {HOSTILE}", 3.0),
    ]
    parts = Parts(
        path=f"models/evil{HOSTILE.replace('/', '')}.onnx",
        description=description(extra=HOSTILE),
        samples=samples(tuple(f"{i}{HOSTILE}" for i in range(10))),
        checks=checks,
        about=ABOUT,
        notices=[HOSTILE],
        environment=ENVIRONMENT,
        seconds=3.2,
    )
    return build_report(parts, decide([finding], checks, samples_given=True))


def error_report() -> Report:
    """A file that could not be read at all."""
    error = UnreadableArtifact("models/x.onnx is empty: download it again")
    return build_error("models/x.onnx", error, environment=ENVIRONMENT)


ALL = {
    "clean": clean_report,
    "backdoored": backdoored_report,
    "hostile": hostile_report,
    "error": error_report,
}
