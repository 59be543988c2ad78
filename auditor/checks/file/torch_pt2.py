"""Exported programs (.pt2): targets of the graph, trigger logic, pickled weights, old layouts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.artifacts.torch_archive import TorchArchive
from auditor.checks.file.rules import finding, register
from auditor.checks.file.torch_allowlist import judge
from auditor.checks.file.torch_bombs import bomb_findings
from auditor.checks.file.torch_common import archive_of
from auditor.checks.file.torch_exported import OPERATOR, GraphRun
from auditor.checks.file.torch_trigger import trigger_findings
from auditor.checks.interface import FileCheck, FileContext, Incomplete, Rule, Skipped
from auditor.errors import UnreadableArtifact
from auditor.findings import Finding, Outcome, Severity

TARGET = Rule(
    "pt2.target",
    "The exported graph calls something that is no operator",
    Severity.CRITICAL,
    "torch resolves a node's target by attribute lookup from the torch package and calls it: any "
    "function reachable from there runs.",
    "Do not load it. Keep it for analysis and warn the supplier.",
    ("pt2",),
    cwe="CWE-829",
    example="A node whose target is torch.hub.load or torch.os.system.",
    blocks_run=True,
)
PICKLED = Rule(
    "pt2.pickled-weights",
    "Weights are stored as pickles",
    Severity.LOW,
    "Such weights are unpickled at load; their contents are checked by the pickle rules.",
    "Prefer an export with plain weights.",
    ("pt2",),
    example='"use_pickle": true in model_weights_config.json.',
)
BROKEN = Rule(
    "pt2.broken",
    "The exported program cannot be read",
    Severity.MEDIUM,
    "What is not valid here cannot be audited.",
    "Ask for an intact file.",
    ("pt2",),
    cwe="CWE-20",
    example="models/model.json that is no JSON.",
)
RULES = (TARGET, PICKLED, BROKEN)
register(*RULES)

_PLAIN = re.compile(
    r"_?operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_"
    r"|xor|lshift|rshift|abs|index|inv|invert|iadd|isub|imul)"
    r"|math\.(floor|ceil|trunc|sqrt|pow|log|log2|exp|sin|cos|tan|sinh|cosh|tanh|asin|acos|atan|fabs)"
    r"|torch\.(sym_\w+|_sym_\w+)|torch\.ops\.higher_order\.\w+|torch\.ops\.prims?\.\w+(\.\w+)?"
    r"|torch\.(float|int|bool)\w*|torch\.utils\._sympy\.functions\.\w+"
    r"|torch\._higher_order_ops\.\w+(\.\w+)?"
)


def programs(archive: TorchArchive) -> Iterator[tuple[str, dict[str, Any]]]:
    """(member, decoded JSON) of every exported program. Raises `UnreadableArtifact`."""
    for name in sorted(archive.members):
        old = name == "serialized_exported_program.json"
        if old or (name.startswith("models/") and name.endswith(".json")):
            try:
                model = json.loads(archive.read(name))
            except (ValueError, RecursionError):
                raise UnreadableArtifact(f"{name} is no valid JSON") from None
            if isinstance(model, dict):
                yield name, model


def graphs(model: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every graph of a program: the main one and those nested in arguments."""
    stack: list[Any] = [model.get("graph_module")]
    budget = 5_000_000
    while stack and budget > 0:
        node = stack.pop()
        budget -= 1
        if isinstance(node, dict):
            if isinstance(node.get("nodes"), list):
                yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def target_findings(member: str, model: Mapping[str, Any]) -> Iterator[Finding]:
    """Nodes whose target is outside torch's operators, once for each target."""
    seen: set[str] = set()
    for graph in graphs(model):
        for node in graph["nodes"]:
            target = str(node.get("target", "")) if isinstance(node, dict) else ""
            if target in seen or len(seen) > 500:
                continue
            seen.add(target)
            place = f"{member}:{node.get('name') or target}"
            match = OPERATOR.fullmatch(target)
            if match:
                verdict = judge(f"ops.{match.group(1)}.{match.group(2)}")
                known = _PLAIN.fullmatch(target)
                if verdict and not (known or verdict[0].id == "code.unknown-operator"):
                    yield finding(verdict[0], target, location=place, severity=verdict[1])
            elif not _PLAIN.fullmatch(target):
                yield finding(TARGET, f"target {target!r}", location=place)


def weight_findings(archive: TorchArchive) -> Iterator[Finding]:
    """Weights that are stored as pickles."""
    for name in archive.members:
        if not name.endswith("_config.json"):
            continue
        try:
            config = json.loads(archive.read(name)).get("config", {})
        except (ValueError, RecursionError, AttributeError):
            yield finding(BROKEN, f"{name} is no valid table", location=name)
            continue
        entries = config.items() if isinstance(config, dict) else ()
        pickled = [k for k, e in entries if isinstance(e, dict) and e.get("use_pickle")]
        if pickled:
            yield finding(PICKLED, f"{name}: {', '.join(map(str, pickled[:10]))}", location=name)


class TorchPt2Check(FileCheck):
    """Targets, trigger logic and sizes of an exported program."""

    name = "file.torch.pt2"
    title = "The exported program"
    doc = (
        "Compares every node's target with torch's operators and follows the graph on abstract "
        "values, as for TorchScript code. Wrong when an honest program uses a custom operator."
    )
    default_severity = Severity.CRITICAL

    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield a finding for each foreign target, gate and oversized tensor."""
        archive = archive_of(context, "pt2")
        yield from weight_findings(archive)
        try:
            found = list(programs(archive))
        except UnreadableArtifact as error:
            yield finding(BROKEN, str(error))
            return
        if not found:
            raise Skipped("the archive holds no exported program")
        for member, model in found:
            yield from target_findings(member, model)
            yield from self._run(archive, member, model)

    def _run(self, archive: TorchArchive, member: str, model: dict[str, Any]) -> Iterator[Outcome]:
        try:
            run = GraphRun(archive, model, member)
            run.run()
        except (AttributeError, TypeError, KeyError, ValueError, UnreadableArtifact) as error:
            raise Incomplete(f"{member} has an unexpected form: {error}") from None
        yield from trigger_findings(run.sinks.hits, self.name)
        yield from bomb_findings(run.bounds)


CHECKS = (TorchPt2Check,)
