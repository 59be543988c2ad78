"""Calls in TorchScript code: into the archive's own functions and classes, and builtins."""

from __future__ import annotations

import ast
from abc import abstractmethod
from collections.abc import Callable, Sequence

from auditor.checks.file.torch_expressions import ROOTS, Expressions
from auditor.checks.file.torch_flow import UNKNOWN, Value, number, union
from auditor.checks.file.torch_machine import Frame
from auditor.checks.file.torch_source import Function, Program, dotted

MAX_CALLS = 60


class Calls(Expressions):
    """Follows calls; what the body of a function does is left to `block`."""

    def __init__(
        self, program: Program, constant: Callable[[str], Value], stored: Callable[[object], Value]
    ) -> None:
        super().__init__(program, constant, stored)
        self.calls = 0
        self.cut: list[str] = []

    @abstractmethod
    def block(self, body: Sequence[ast.stmt], frame: Frame) -> bool:
        """Execute statements; True when the block ends the function or always raises."""

    def call(self, function: Function, args: Sequence[Value], named: dict[str, Value]) -> Value:
        """The abstract result of calling `function`."""
        if self.calls >= MAX_CALLS:
            self.cut.append(function.name)
            return union([*args, *named.values()])
        self.calls += 1
        frame = Frame(self._bind(function, args, named), function.member)
        frame.running = not function.name.endswith(("__init__", "__setstate__"))
        try:
            self.block(function.node.body, frame)
        finally:
            self.calls -= 1
        return frame.returned if frame.returned is not None else number(None)

    def _bind(
        self, function: Function, args: Sequence[Value], named: dict[str, Value]
    ) -> dict[str, Value]:
        spec = function.node.args
        parameters = [a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
        names = dict(zip(parameters, args, strict=False))
        names.update({k: v for k, v in named.items() if k in parameters})
        defaults = spec.defaults
        for name, default in zip(
            parameters[len(parameters) - len(defaults) :], defaults, strict=False
        ):
            if name not in names:
                known = default.value if isinstance(default, ast.Constant) else UNKNOWN
                names[name] = number(known)
        for name in parameters:
            names.setdefault(name, Value())
        return names

    def invoke(self, node: ast.Call, frame: Frame) -> Value:
        """The abstract result of the call `node`."""
        args = [self.expression(a, frame) for a in node.args]
        named = {k.arg: self.expression(k.value, frame) for k in node.keywords if k.arg}
        if isinstance(node.func, ast.Attribute):
            path = dotted(node.func)
            head = path.partition(".")[0]
            if not (path and head in ROOTS and head not in frame.names):
                owner = self.expression(node.func.value, frame)
                if not owner.ref:
                    return self._method(owner, node.func.attr, args, named, node, frame)
                path = f"{owner.ref}.{node.func.attr}"
            return self._reference(path, args, named, node, frame)
        function = self.expression(node.func, frame)
        if isinstance(function.node, tuple):  # a function defined inside a function
            inner, names = function.node
            return self.call(inner, args, {**names, **named})
        return self._reference(function.ref, args, named, node, frame)

    def _method(
        self,
        owner: Value,
        name: str,
        args: list[Value],
        named: dict[str, Value],
        node: ast.AST,
        frame: Frame,
    ) -> Value:
        script = self.program.classes.get(owner.cls)
        if script and name in script.methods:
            return self.call(script.methods[name], [owner, *args], named)
        if script and name.partition("__")[0] in ("forward",):
            for candidate, method in script.methods.items():
                if candidate.startswith(name):
                    return self.call(method, [owner, *args], named)
        if name in ("append", "extend", "insert") and owner.items is not None:
            owner.items.extend(args[-1].items or args[-1:] if name == "extend" else args[-1:])
            return number(None)
        if name in ("items", "values", "keys", "get") and owner.table is not None:
            return Value(items=list(owner.table.values()))
        return self.apply(name, [owner, *args], named, node, frame)

    def _reference(
        self, path: str, args: list[Value], named: dict[str, Value], node: ast.Call, frame: Frame
    ) -> Value:
        if path in self.program.functions:
            return self.call(self.program.functions[path], args, named)
        if path.endswith(".__new__"):
            return Value(cls=path.removesuffix(".__new__"))
        if path in self.program.classes:
            if self.program.classes[path].is_tuple:
                return Value(items=args, cls=path)
            made = Value(cls=path)
            self._method(made, "__init__", args, named, node, frame)
            return made
        if path.startswith("__torch__.") and path.rpartition(".")[0] in self.program.classes:
            owner = self.program.classes[path.rpartition(".")[0]]
            method = owner.methods.get(path.rpartition(".")[2])
            if method:
                return self.call(method, args, named)
        return self._builtin(path, args, named, node, frame)

    def _builtin(
        self, path: str, args: list[Value], named: dict[str, Value], node: ast.Call, frame: Frame
    ) -> Value:
        first = args[0] if args else Value()
        if path == "getattr" and len(args) > 1 and isinstance(args[1].known, str):
            return self.member(first, args[1].known)
        if path in ("annotate", "unchecked_cast") and len(args) > 1:
            return args[1]
        if path in ("int", "float", "bool"):
            return self._cast(path, first, node, frame)
        if path == "range":
            ends = [a.known for a in args]
            count = ends[0] if len(ends) == 1 else UNKNOWN
            if len(ends) >= 2 and all(isinstance(e, int) for e in ends):
                count = max(0, (ends[1] - ends[0]) // (ends[2] if len(ends) > 2 and ends[2] else 1))
            return union(args).copy(known=count)
        if path in ("fork", "torch.fork", "torch.jit.fork") and args:
            target = first.node if isinstance(first.node, tuple) else None
            if target:
                return self.call(target[0], args[1:], {**target[1], **named})
            return self._reference(first.ref, args[1:], named, node, frame)
        if path in ("wait", "torch.wait", "print", "uninitialized"):
            return first if path.endswith("wait") else number(None) if path == "print" else Value()
        return self.apply(path, args, named, node, frame)

    def _cast(self, path: str, value: Value, node: ast.AST, frame: Frame) -> Value:
        if value.constant:
            known = value.known
            if isinstance(known, int | float) and abs(known) < 1e300:
                return number({"int": int, "float": float, "bool": bool}[path](known))
            return Value() if known is UNKNOWN else value
        if path == "float":
            return value.copy(narrow=True)
        return self.truth(value, node, frame)
