"""One abstract run of an exported graph, by the same operator table as TorchScript code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from auditor.artifacts.torch_archive import TorchArchive
from auditor.artifacts.torch_tensors import tensors
from auditor.checks.file.torch_analysis import constant_value
from auditor.checks.file.torch_bounds import Bounds
from auditor.checks.file.torch_flow import Value, number, union
from auditor.checks.file.torch_machine import perform
from auditor.checks.file.torch_optables import bare
from auditor.checks.file.torch_sinks import Sinks

OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)(\.\w+)?", re.ASCII)
"""Target of a node that calls an operator: namespace, name, overload."""

_PYTHON_OPS = {"truediv": "div", "getitem": "__getitem__", "mod": "remainder", "and_": "__and__"}
MAX_NODES = 100_000


class GraphRun:
    """The state of a run: what was found, and what each name of the graph holds."""

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
        if OPERATOR.fullmatch(target):
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
