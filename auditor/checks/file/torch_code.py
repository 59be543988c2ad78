"""TorchScript code by an operator allowlist: what it calls, from where, and what runs at load."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.checks.file.rules import finding, register
from auditor.checks.file.torch_allowlist import FORK, judge
from auditor.checks.file.torch_analysis import analysis_of
from auditor.checks.file.torch_bombs import bomb_findings
from auditor.checks.file.torch_common import TORCHSCRIPT
from auditor.checks.file.torch_source import Program, dotted
from auditor.checks.interface import FileCheck, FileContext, Rule
from auditor.findings import Finding, Outcome, Severity

AT_LOAD = Rule(
    "code.load",
    "The archive runs code when it is loaded",
    Severity.MEDIUM,
    "__setstate__ runs inside torch.jit.load, before anybody calls the model.",
    "Read the method; honest ones only unpack weights.",
    TORCHSCRIPT,
    cwe="CWE-829",
    example="__setstate__ that loops for an hour.",
)
STRINGS = Rule(
    "code.strings",
    "Suspicious text in the code",
    Severity.MEDIUM,
    "Paths of secrets, shell commands or encoded programs have no use in a classifier.",
    "Read the place; find out what uses the text.",
    ("torchscript",),
    cwe="CWE-506",
    example='"/etc/passwd" in forward.',
)
UNPARSED = Rule(
    "code.unparsed",
    "Code in the archive cannot be analysed",
    Severity.MEDIUM,
    "torch writes plain code; what cannot be parsed here cannot be audited either.",
    "Have the model saved anew by torch.",
    TORCHSCRIPT,
    cwe="CWE-20",
    example="A source with brackets nested a thousand deep.",
)
register(AT_LOAD, STRINGS, UNPARSED)

_STATE_OPS = re.compile(
    r"ops\.(quantized|_quantized|mkldnn\w*|prepacked|prim|onednn|sparse)\.\w+|torch\."
    r"(__\w+__|eq|ne|gt|lt|ge|le|len|format|add|sub|mul|append|size|dim|device|to|detach|list|keys"
    r"|items|values|contains|dtype|_choose_qparams_per_tensor|quantize_per_(tensor|channel)|"
    r"dequantize|zeros|ones|tensor|contiguous|clone|permute|transpose|split|select|slice|unbind"
    r"|ops\.\w+|per_\w+|q_\w+|int_repr|requires_grad_?|set_grad_enabled|item|empty|reshape|view)"
)
_SUSPECT = re.compile(
    r"/etc/(passwd|shadow|cron|sudoers|ld\.so)|/bin/(ba|z|da)?sh\b|(^|[\s;|&])(curl|wget|nc) +-?\w"
    r"|powershell|cmd\.exe|\.ssh/|authorized_keys|id_rsa|\.bashrc|\.profile\b|/proc/self|/dev/(tcp|shm)"
    r"|os\.system|subprocess|__import__|base64 -d|\beval\(|\bexec\(|rm -rf|LD_PRELOAD|AWS_SECRET"
    r"|C:\\\\?Windows|\\\\AppData\\\\|(^|\s)import +(os|sys|socket)\b",
    re.IGNORECASE,
)
_ENCODED = re.compile(
    r"f0VMR[gi]|TV[qpo][QAB][AM]|UEsDB[BA]|H4sIA|gAS[VW]|gAJ[9jY]|^7f454c46|^4d5a[0-9a-f]{60}", re.I
)
_FALLBACK = re.compile(r"\^?\b[A-Za-z_][\w.]*(?=\s*\()")


@dataclass(frozen=True, slots=True)
class Use:
    """A call in the code: full name, where, and whether it runs at load."""

    name: str
    place: str
    line: str
    at_load: bool


def uses(program: Program) -> Iterator[Use]:
    """Every call of an operator in the code (aliases resolved within a function)."""
    for member, tree in program.trees.items():
        for function, at_load in _functions(tree):
            aliases = _aliases(function)
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute | ast.Name):
                    name = dotted(node)
                    head, _, rest = name.partition(".")
                    if head in aliases:
                        name = f"{aliases[head]}.{rest}" if rest else aliases[head]
                    if name.startswith(("torch.", "ops.")) or name in ("fork", "awaitable"):
                        yield _use(program, member, node.lineno, name, at_load)
    for member in program.unparsed:
        for number, line in enumerate(program.lines.get(member, [])[:100_000], 1):
            for match in _FALLBACK.finditer(line[:20_000]):
                if match.group().startswith(("torch.", "ops.", "^")):
                    yield _use(program, member, number, match.group(), "__setstate__" in line)


def _use(program: Program, member: str, number: int, name: str, at_load: bool) -> Use:
    return Use(name, f"{member}:{number}", program.line(member, number), at_load)


def _functions(tree: ast.Module) -> Iterator[tuple[ast.AST, bool]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                name = item.name if isinstance(item, ast.FunctionDef) else ""
                yield item, name == "__setstate__"
        else:
            yield node, False


def _aliases(function: ast.AST) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, source = node.targets[0], dotted(node.value)
            if isinstance(target, ast.Name) and source.partition(".")[0] in ("torch", "ops"):
                found[target.id] = source
    return found


def operator_findings(program: Program) -> Iterator[Finding]:
    """One finding for each operator outside the allowlist and place; load time is said."""
    seen: set[tuple[str, str]] = set()
    for use in uses(program):
        if use.name in ("torch", "ops") or use.name.count(".") == 0:
            verdict = (FORK, FORK.severity) if use.name == "fork" else None
        elif use.name.startswith("ops.") and use.name.count(".") < 2:
            continue  # the namespace part of a longer name
        elif use.name.startswith(("torch.classes", "torch.ops")):
            continue
        else:
            verdict = judge(use.name)
        if verdict is None or (use.name, use.place) in seen or len(seen) > 60:
            continue
        seen.add((use.name, use.place))
        rule, severity = verdict
        when = " (runs at load)" if use.at_load else ""
        text = f"{use.name}{when}: {use.line}"
        yield finding(rule, text, location=use.place, severity=severity)


def load_findings(program: Program) -> Iterator[Finding]:
    """Work done in ``__setstate__`` beyond unpacking weights."""
    for script in program.classes.values():
        method = script.methods.get("__setstate__")
        if method is None:
            continue
        loops = [n for n in ast.walk(method.node) if isinstance(n, ast.While | ast.For)]
        calls = sorted(
            {
                name
                for node in ast.walk(method.node)
                if isinstance(node, ast.Call)
                and (name := dotted(node.func)).startswith(("torch.", "ops."))
                and not _STATE_OPS.fullmatch(name)
            }
        )
        if calls or loops:
            place = f"{method.member}:{method.node.lineno}"
            what = ", ".join(calls[:8]) or "a loop"
            level = Severity.HIGH if any(isinstance(n, ast.While) for n in loops) else None
            text = f"{script.name}.__setstate__ does more than unpack: {what}"
            yield finding(AT_LOAD, text, location=place, severity=level)


def string_findings(program: Program) -> Iterator[Finding]:
    """String constants that name secrets, shells or encoded programs."""
    count = 0
    for member, tree in program.trees.items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            if _SUSPECT.search(node.value[:20_000]) or _ENCODED.match(node.value):
                count += 1
                if count <= 20:
                    text = f"{node.value[:200]!r}"
                    yield finding(STRINGS, text, location=f"{member}:{node.lineno}")


class TorchCodeCheck(FileCheck):
    """Every operator the code names, load-time methods, strings, and resource bombs."""

    name = "file.torch.code"
    title = "What the code calls"
    doc = (
        "Compares each operator with the list of torch's own compute operators and estimates "
        "sizes and trip counts from constants. Wrong when an honest model needs an "
        "unlisted extension."
    )
    default_severity = Severity.CRITICAL

    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield a finding for each call, string or size that no classifier needs."""
        analysis = analysis_of(context)
        program = analysis.program
        for member, reason in program.unparsed.items():
            yield finding(UNPARSED, f"{member}: {reason}", location=member)
        yield from operator_findings(program)
        yield from load_findings(program)
        yield from string_findings(program)
        yield from bomb_findings(analysis.interpreter.bounds)


CHECKS = (TorchCodeCheck,)
