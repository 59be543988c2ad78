"""Exported programs (.pt2): targets of the graph, trigger logic, pickled weights, old layouts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.artifacts.torch_archive import TorchArchive
from auditor.artifacts.torch_tensors import tensors
from auditor.checks.file.rules import finding, register
from auditor.checks.file.torch_allowlist import judge
from auditor.checks.file.torch_analysis import constant_value
from auditor.checks.file.torch_bombs import bomb_findings
from auditor.checks.file.torch_bounds import Bounds
from auditor.checks.file.torch_common import archive_of
from auditor.checks.file.torch_flow import Value, number, union
from auditor.checks.file.torch_machine import perform
from auditor.checks.file.torch_optables import bare
from auditor.checks.file.torch_sinks import Sinks
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
_OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)(\.\w+)?", re.ASCII)
_PYTHON_OPS = {"truediv": "div", "getitem": "__getitem__", "mod": "remainder", "and_": "__and__"}
MAX_NODES = 100_000


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
            match = _OPERATOR.fullmatch(target)
            if match:
                verdict = judge(f"ops.{match.group(1)}.{match.group(2)}")
                known = _PLAIN.fullmatch(target)
                if verdict and not (known or verdict[0].id == "code.unknown-operator"):
                    yield finding(verdict[0], target, location=place, severity=verdict[1])
            elif not _PLAIN.fullmatch(target):
                yield finding(TARGET, f"target {target!r}", location=place)


class GraphRun:
    """One abstract run of an exported graph, by the same operator table as TorchScript code."""

    def __init__(self, archive: TorchArchive, model: Mapping[str, Any], member: str) -> None:
        self.archive = archive
        self.member = member
        self.sinks = Sinks()
        self.bounds = Bounds()
        self.left = MAX_NODES
        module = model.get("graph_module")
        module = module if isinstance(module, dict) else {}
        graph = module.get("graph")
        self.graph: dict[str, Any] = graph if isinstance(graph, dict) else {}
        self.names = self._inputs(module.get("signature"))

    def _inputs(self, signature: Any) -> dict[str, Value]:
        stored = tensors(self.archive)
        names: dict[str, Value] = {}
        specs = signature.get("input_specs", []) if isinstance(signature, dict) else []
        for spec in specs:
            for kind, entry in spec.items() if isinstance(spec, dict) else ():
                if not isinstance(entry, dict) or not isinstance(entry.get("arg"), dict):
                    continue
                arg = entry["arg"]
                name = arg.get("name") or next(
                    (v.get("name") for v in arg.values() if isinstance(v, dict)), None
                )
                key = next((v for k, v in entry.items() if k.endswith("_name")), "")
                if kind == "user_input":
                    names[str(name)] = Value(depth=0, trail=(f"input {name}",))
                else:
                    found = stored.get(key) or stored.get(f"constants.{key}")
                    value = constant_value(self.archive, found) if found else Value()
                    names[str(name)] = value
        return names

    def run(self) -> None:
        """Run the main graph."""
        self._run(self.graph, self.names, 0)

    def _run(self, graph: Mapping[str, Any], names: dict[str, Value], depth: int) -> list[Value]:
        for node in graph.get("nodes") or ():
            self.left -= 1
            if self.left < 0 or depth > 20 or not isinstance(node, dict):
                break
            self._node(node, names, depth)
        return [self._argument(o, names) for o in graph.get("outputs") or ()]

    def _node(self, node: Mapping[str, Any], names: dict[str, Value], depth: int) -> None:
        target = str(node.get("target", ""))
        args: list[Value] = []
        named: dict[str, Value] = {}
        raw: list[Any] = []
        for item in node.get("inputs") or ():
            arg = item.get("arg") if isinstance(item, dict) else None
            value = self._argument(arg, names)
            raw.append(arg)
            if isinstance(item, dict) and item.get("kind") == 2:
                named[str(item.get("name"))] = value
            else:
                args.append(value)
        step = f"{self.member}:{node.get('name') or target} {target}"[:200]
        if target.endswith("higher_order.cond") and len(raw) >= 3:
            result = self._cond(raw, args, step, depth)
        else:
            result = self._operator(target, args, named, step)
        self._bind(node.get("outputs") or (), result, names)

    def _operator(
        self, target: str, args: list[Value], named: dict[str, Value], step: str
    ) -> Value:
        if _OPERATOR.fullmatch(target):
            path = target.removeprefix("torch.ops.")
            op, last = bare(path), path.split(".")[1]
        else:
            last = target.rpartition(".")[2]
            op = _PYTHON_OPS.get(last, last.removeprefix("sym_"))
        return perform(op, last, args, named, step, self.sinks, self.bounds)

    def _cond(self, raw: list[Any], args: list[Value], step: str, depth: int) -> Value:
        test = args[0].copy(narrow=True)
        operands = args[3].items if len(args) > 3 and args[3].items is not None else args[3:]
        outcomes = []
        for arg in raw[1:3]:
            graph = arg.get("as_graph", {}).get("graph", {}) if isinstance(arg, dict) else {}
            names: dict[str, Value] = {}
            for entry, value in zip(graph.get("inputs") or (), operands, strict=False):
                names[_name(entry)] = value
            self.sinks.control.append(test)
            outcomes.append(self._run(graph, names, depth + 1))
            self.sinks.control.pop()
        pairs = zip(*outcomes, strict=False)
        return Value(items=[self.sinks.choose(test, a, b, step) for a, b in pairs])

    def _bind(self, outputs: Any, result: Value, names: dict[str, Value]) -> None:
        flat = [name for output in outputs for name in _all_names(output)]
        items = result.items if result.items is not None else [result] * len(flat)
        if len(items) != len(flat):
            items = [union(items)] * len(flat) if items else [Value()] * len(flat)
        names.update(zip(flat, items, strict=True))

    def _argument(self, arg: Any, names: dict[str, Value]) -> Value:
        if not isinstance(arg, dict) or not arg:
            return Value()
        kind, content = next(iter(arg.items()))
        if kind in ("as_int", "as_float", "as_bool", "as_string"):
            return number(content)
        if kind in ("as_ints", "as_floats", "as_bools") and isinstance(content, list):
            return Value(items=[number(n) for n in content])
        if kind == "as_none":
            return number(None)
        if isinstance(content, dict):
            if "name" in content or "as_name" in content:
                return names.get(str(content.get("name", content.get("as_name"))), Value())
            inner = content.get("as_int")
            return number(inner) if isinstance(inner, int) else Value()
        if isinstance(content, list):
            return Value(items=[self._argument(_wrap(item), names) for item in content])
        return Value()


def _wrap(item: Any) -> Any:
    return {"as_tensor": item} if isinstance(item, dict) and "name" in item else item


def _name(entry: Any) -> str:
    return next(iter(_all_names(entry)), "")


def _all_names(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return []
    content = next(iter(entry.values()), None)
    if isinstance(content, dict):
        return [str(content.get("name", content.get("as_name", "")))]
    if isinstance(content, list):
        return [str(item.get("name", "")) for item in content if isinstance(item, dict)]
    return []


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
