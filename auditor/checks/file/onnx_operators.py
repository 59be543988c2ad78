"""Operators that are not plain mathematics: Python, unknown domains, compiled blobs, shadows."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from auditor.checks.file.onnx_external import leaves_folder
from auditor.checks.file.onnx_graph import Node, Program, load_program, require_onnx
from auditor.checks.file.rules import finding, register, shorten
from auditor.checks.interface import FileCheck, FileContext, Rule
from auditor.findings import Finding, Metric, Outcome, Severity

PYTHON = Rule(
    id="operator.python",
    title="An operator that runs Python",
    severity=Severity.CRITICAL,
    why="Where the matching extension is installed, running the model runs that Python code with "
    "the user's rights.",
    remedy="Do not load the model.",
    formats=("onnx",),
    cwe="CWE-94",
    example="ai.onnx.contrib::PyOp with module os and compute system.",
    blocks_run=True,
)
UNKNOWN_DOMAIN = Rule(
    id="operator.unknown-domain",
    title="An operator no standard defines",
    severity=Severity.MEDIUM,
    why="It needs native code from somewhere else; what it computes cannot be read from this file.",
    remedy="Ask where its library comes from, or for an export without it.",
    formats=("onnx",),
    cwe="CWE-829",
    example="com.example.ops::StealthOp applied to the logits.",
)
EXTENSION = Rule(
    id="operator.extension",
    title="An operator of a known extension package",
    severity=Severity.LOW,
    why="Running it loads the extension's native library.",
    remedy="Install the extension from its official source only.",
    formats=("onnx",),
    example="ai.onnx.contrib::BertTokenizer.",
)
COMPILED = Rule(
    id="operator.compiled",
    title="A compiled engine inside the graph",
    severity=Severity.MEDIUM,
    why="The node carries (or points to) machine code for an accelerator that cannot be inspected.",
    remedy="Ask for the model before compilation.",
    formats=("onnx",),
    cwe="CWE-829",
    example="com.microsoft::EPContext with a cached engine.",
)
SHADOW = Rule(
    id="operator.shadow",
    title="A local function takes the name of a standard operator",
    severity=Severity.MEDIUM,
    why="Some readers call the standard operator, others the function: they see two models.",
    remedy="Rename the function, or ask why it is there.",
    formats=("onnx",),
    cwe="CWE-436",
    example="a function called Relu in the default domain.",
)
register(PYTHON, UNKNOWN_DOMAIN, EXTENSION, COMPILED, SHADOW)

KNOWN_PREFIXES = (
    "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.training", "com.ms.internal", "org.pytorch.aten",
    "pkg.onnxscript", "pkg.torch",
)  # fmt: skip
KNOWN_DOMAINS = frozenset(
    {"com.microsoft", "com.microsoft.nchwc", "com.microsoft.dml", "com.microsoft.experimental"}
)
EXTENSIONS = ("ai.onnx.contrib",)
PYTHON_OPS = frozenset(
    {"PyOp", "PythonOp", "PythonOpGrad", "PyCustomOp", "PyFunc", "PyCustomOpDef"}
)


class OperatorCheck(FileCheck):
    """Reports the `operator.*` rules."""

    name = "file.operators"
    title = "Operators"
    doc = (
        "Lists operators that run Python, need foreign native code or carry compiled engines. "
        "Wrong when a site uses its own, trusted operator library."
    )
    default_severity = Severity.CRITICAL

    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield one finding an operator type."""
        program = load_program(require_onnx(context))
        seen: set[tuple[str, str]] = set()
        for node in program.main.walk():
            for item in _node(node):
                if (item.rule, node.op) not in seen:
                    seen.add((item.rule, node.op))
                    yield item
        yield from _shadows(program)
        yield Metric("file.operators.foreign", len(seen))


def _node(node: Node) -> Iterator[Finding]:
    domain, _, op = node.op.rpartition("::")
    if op in PYTHON_OPS or op.startswith("PyOp_"):
        given = ", ".join(f"{key}={str(value)[:60]!r}" for key, value in sorted(node.attrs.items()))
        yield finding(PYTHON, f"{node.label} with {given or 'no attributes'}.", location=node.label)
    elif op == "EPContext":
        cached = str(node.attrs.get("ep_cache_context", ""))
        outside = not int(node.attrs.get("embed_mode", 1)) and leaves_folder(cached)
        held = f"a path outside the folder: {cached}" if outside else "an engine"
        yield finding(
            COMPILED,
            f"{node.label} holds {held}.",
            location=node.label,
            severity=Severity.CRITICAL if outside else None,
            blocks_run=outside,
        )
    elif domain.startswith(EXTENSIONS):
        yield finding(EXTENSION, f"{node.label}.", location=node.label)
    elif domain and not _known(domain):
        yield finding(
            UNKNOWN_DOMAIN, f"{node.label} belongs to domain {domain!r}.", location=node.label
        )
    elif not domain and not onnx.defs.has(op):
        yield finding(
            UNKNOWN_DOMAIN, f"{node.label}: ONNX has no operator {op!r}.", location=node.label
        )


def _known(domain: str) -> bool:
    """True for a documented domain: a prefix alone would admit ``com.microsoft.anything``."""
    return domain in KNOWN_DOMAINS or any(
        domain == prefix or domain.startswith(prefix + ".") for prefix in KNOWN_PREFIXES
    )


def _shadows(program: Program) -> Iterator[Finding]:
    skeleton = program.skeleton
    for function in () if skeleton is None else skeleton.functions:
        if function.domain in ("", "ai.onnx") and onnx.defs.has(function.name):
            yield finding(
                SHADOW,
                f"The local function {shorten(function.name, 80)!r} is called like a standard "
                "operator.",
                location=function.name,
            )


__all__ = ["CHECKS", "OperatorCheck"]
CHECKS = (OperatorCheck,)
