"""Run TorchScript code on abstract values: what comes from where, never what it is.

Every call into the archive's own code is followed, so a gate in a helper, a submodule or a loop is
seen like one in ``forward``. Steps and call depth are bounded; what was cut off is counted.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from auditor.artifacts.torch_archive import Call
from auditor.checks.file.torch_bounds import Bounds
from auditor.checks.file.torch_flow import (
    UNKNOWN,
    Value,
    becomes_state,
    bend,
    flatten,
    number,
    union,
)
from auditor.checks.file.torch_ops import operate
from auditor.checks.file.torch_optables import bare
from auditor.checks.file.torch_sinks import Sinks, overwrite
from auditor.checks.file.torch_source import Function, Program, dotted

MAX_STEPS = 250_000
MAX_CALLS = 60
_ROOTS = ("torch", "ops", "__torch__", "CONSTANTS")
_BINARY = {
    "Add": "add", "Sub": "sub", "Mult": "mul", "Div": "div", "FloorDiv": "floordiv",
    "Mod": "remainder", "Pow": "pow", "MatMult": "matmul", "BitAnd": "__and__",
    "BitOr": "__or__", "BitXor": "__xor__", "LShift": "__lshift__", "RShift": "__rshift__",
}  # fmt: skip
_COMPARE = {
    "Gt": "gt", "Lt": "lt", "GtE": "ge", "LtE": "le", "Eq": "eq", "NotEq": "ne",
    "Is": "__is__", "IsNot": "__isnot__", "In": "__contains__", "NotIn": "__contains__",
}  # fmt: skip


class Exhausted(Exception):
    """The step bound was reached."""


@dataclass(slots=True)
class Frame:
    """One call: its variables, where it stands, what it returned under which condition."""

    names: dict[str, Value]
    member: str
    returned: Value | None = None
    pending: Value | None = None
    running: bool = True


class Interpreter:
    """Abstract runs over a parsed program; `constant` and `stored` make the archive's values."""

    def __init__(
        self, program: Program, constant: Callable[[str], Value], stored: Callable[[object], Value]
    ) -> None:
        self.program = program
        self.sinks = Sinks()
        self.bounds = Bounds()
        self.constant = constant
        self.stored = stored
        self.steps = 0
        self.calls = 0
        self.cut: list[str] = []

    def call(self, function: Function, args: Sequence[Value], named: dict[str, Value]) -> Value:
        """The abstract result of calling `function`."""
        if self.calls >= MAX_CALLS:
            self.cut.append(function.name)
            return union([*args, *named.values()])
        self.calls += 1
        frame = Frame(self._bind(function, args, named), function.member)
        frame.running = not function.name.endswith(("__init__", "__setstate__"))
        try:
            self._block(function.node.body, frame)
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

    # statements

    def _block(self, body: Sequence[ast.stmt], frame: Frame) -> bool:
        """Execute statements; True when the block ends the function or always raises."""
        for statement in body:
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise Exhausted
            if self._statement(statement, frame):
                return True
        return False

    def _statement(self, node: ast.stmt, frame: Frame) -> bool:
        if isinstance(node, ast.Assign):
            value = self._expr(node.value, frame)
            for target in node.targets:
                self._assign(target, value, frame)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self._assign(node.target, self._expr(node.value, frame), frame)
        elif isinstance(node, ast.AugAssign):
            op = _BINARY.get(type(node.op).__name__, "add")
            parts = [self._expr(node.target, frame), self._expr(node.value, frame)]
            value = self._operate(op, parts, {}, node, frame)
            self._assign(node.target, value, frame)
        elif isinstance(node, ast.Expr):
            self._expr(node.value, frame)
            return _raises(node.value)
        elif isinstance(node, ast.Return):
            value = self._expr(node.value, frame) if node.value else number(None)
            self._return(value, node, frame)
            return True
        elif isinstance(node, ast.If):
            return self._if(node, frame)
        elif isinstance(node, ast.For | ast.While):
            self._loop(node, frame)
        elif isinstance(node, ast.With):
            for item in node.items:
                self._expr(item.context_expr, frame)
            return self._block(node.body, frame)
        elif isinstance(node, ast.FunctionDef):
            function = Function(node.name, frame.member, node)
            frame.names[node.name] = Value(node=(function, frame.names))
        return isinstance(node, ast.Raise | ast.Break | ast.Continue)

    def _return(self, value: Value, node: ast.AST, frame: Frame) -> None:
        step = self._step(node, frame)
        if frame.returned is None:
            frame.returned = value
            return
        frame.returned = self._merge(frame.pending or Value(), frame.returned, value, step)

    def _if(self, node: ast.If, frame: Frame) -> bool:
        test = self._truth(self._expr(node.test, frame), node, frame)
        if isinstance(test.known, bool | int) or test.known is None:
            return self._block(node.body if test.known else node.orelse, frame)
        before = frame.names
        had = frame.returned
        ends, results, answers = [], [], []
        for body in (node.body, node.orelse):
            frame.names, frame.returned = dict(before), had
            self.sinks.control.append(test)
            ends.append(self._block(body, frame))
            self.sinks.control.pop()
            results.append(frame.names)
            answers.append(frame.returned)
        step = self._step(node, frame)
        frame.returned = self._join_returns(test, answers, step)
        if ends[0] and ends[1]:
            return True
        if ends[0] or ends[1]:
            frame.names = results[1] if ends[0] else results[0]
            if frame.returned is not had:
                frame.pending = test  # what follows runs when the early return was not taken
            return False
        frame.names = self._join(test, results[0], results[1], step)
        return False

    def _join_returns(self, test: Value, answers: list[Value | None], step: str) -> Value | None:
        yes, no = answers
        if yes is None or no is None:
            return yes if no is None else no
        return yes if yes is no else self._merge(test, yes, no, step)

    def _join(
        self, test: Value, yes: dict[str, Value], no: dict[str, Value], step: str
    ) -> dict[str, Value]:
        out = dict(no)
        for name, value in yes.items():
            other = no.get(name)
            if other is None or other is value:
                out[name] = value
            else:
                out[name] = self._merge(test, value, other, step)
        return out

    def _merge(self, test: Value, yes: Value, no: Value, step: str) -> Value:
        if yes is no:
            return yes
        if yes.known is None or no.known is None:  # an optional: the one that is there
            return no if yes.known is None else yes
        if yes.cls or no.cls or yes.ref or no.ref:
            return yes if yes.cls or yes.ref else no
        if yes.items is not None and no.items is not None and len(yes.items) == len(no.items):
            pairs = zip(yes.items, no.items, strict=True)
            return Value(items=[self._merge(test, a, b, step) for a, b in pairs])
        if yes.items is not None or no.items is not None:
            yes, no = union([yes]), union([no])
        known = yes.known if _equal(yes.known, no.known) else UNKNOWN
        out = self.sinks.choose(test, yes, no, step)
        return out if known is UNKNOWN else out.copy(known=known)

    def _loop(self, node: ast.For | ast.While, frame: Frame) -> None:
        trips: object = UNKNOWN
        condition = Value()
        if isinstance(node, ast.For):
            source = self._expr(node.iter, frame)
            trips = source.known if isinstance(source.known, int) else UNKNOWN
            condition = self._truth(source, node, frame) if not source.items else Value()
            item = union(source.items) if source.items else source.copy(known=UNKNOWN)
            self.bounds.loop(trips, source, self._step(node, frame))
        entered: Value | None = None
        depth = len(self.sinks.control)
        for turn in range(2):
            if isinstance(node, ast.While):
                condition = self._truth(self._expr(node.test, frame), node, frame)
                if condition.known is False:
                    break
                entered = entered or condition
            else:
                self._assign(node.target, item, frame)
            before = dict(frame.names)
            self.sinks.control.append(condition)
            self.bounds.enter(trips)
            self._block(node.body, frame)
            self.bounds.leave()
            del self.sinks.control[depth:]
            after = frame.names
            # Only the second turn tells: a counter is no longer a known number then.
            if turn and isinstance(node, ast.While) and self._endless(node, entered, after, frame):
                self.bounds.endless(self._step(node, frame))
            test = condition.copy(known=UNKNOWN)
            if isinstance(node, ast.For) and condition.constant:
                frame.names = {k: _forget(v, before.get(k)) for k, v in after.items()}
            else:
                frame.names = self._join(test, after, before, self._step(node, frame))

    def _endless(
        self, node: ast.While, entered: Value | None, names: dict[str, Value], frame: Frame
    ) -> bool:
        if entered is None or entered.known is not True:
            return False
        if any(isinstance(n, ast.Break | ast.Return | ast.Raise) for n in ast.walk(node)):
            return False
        if any(_raises(n.value) for n in ast.walk(node) if isinstance(n, ast.Expr)):
            return False
        now = names.get(node.test.id) if isinstance(node.test, ast.Name) else entered
        return now is not None and now.known is True

    def _assign(self, target: ast.expr, value: Value, frame: Frame) -> None:
        if isinstance(target, ast.Name):
            frame.names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            parts = target.elts
            items = value.items
            if items is None or len(items) != len(parts):
                items = [value.copy(items=None)] * len(parts)
            for part, item in zip(parts, items, strict=True):
                self._assign(part, item, frame)
        elif isinstance(target, ast.Attribute):
            owner = self._expr(target.value, frame)
            changed = value is not owner.attributes.get(target.attr)
            if changed and owner.cls and value.stored and frame.running:
                becomes_state(value, f"{target.attr}")
            owner.attributes[target.attr] = value
        elif isinstance(target, ast.Subscript):
            owner = self._expr(target.value, frame)
            if owner.items is not None or owner.table is not None:
                owner.items, owner.table = [*(owner.items or []), value], None
                return
            keys = flatten([self._expr(target.slice, frame)])
            self.sinks.assign(owner, value, keys, self._step(target, frame))

    # expressions

    def _expr(self, node: ast.expr, frame: Frame) -> Value:
        if isinstance(node, ast.Constant):
            return number(node.value)
        if isinstance(node, ast.Name):
            return self._name(node.id, frame)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, frame)
        if isinstance(node, ast.Call):
            return self._call(node, frame)
        if isinstance(node, ast.Tuple | ast.List):
            return Value(items=[self._expr(e, frame) for e in node.elts])
        if isinstance(node, ast.Dict):
            return self._dict(node, frame)
        if isinstance(node, ast.Subscript):
            return self._subscript(node, frame)
        return self._operator(node, frame)

    def _operator(self, node: ast.expr, frame: Frame) -> Value:
        if isinstance(node, ast.UnaryOp):
            op = {"USub": "neg", "Not": "__not__", "Invert": "bitwise_not"}.get(
                type(node.op).__name__, "pos"
            )
            return self._operate(op, [self._expr(node.operand, frame)], {}, node, frame)
        if isinstance(node, ast.BinOp):
            op = _BINARY.get(type(node.op).__name__, "add")
            parts = [self._expr(node.left, frame), self._expr(node.right, frame)]
            return self._operate(op, parts, {}, node, frame)
        if isinstance(node, ast.BoolOp):
            values = [self._expr(v, frame) for v in node.values]
            return self._operate("__and__", values, {}, node, frame)
        if isinstance(node, ast.Compare):
            parts = [
                self._expr(node.left, frame),
                *(self._expr(c, frame) for c in node.comparators),
            ]
            op = _COMPARE.get(type(node.ops[0]).__name__, "eq")
            return self._operate(op, parts, {}, node, frame)
        if isinstance(node, ast.IfExp):
            test = self._truth(self._expr(node.test, frame), node, frame)
            yes, no = self._expr(node.body, frame), self._expr(node.orelse, frame)
            return self._merge(test, yes, no, self._step(node, frame))
        parts = [
            self._expr(c, frame) for c in ast.iter_child_nodes(node) if isinstance(c, ast.expr)
        ]
        return union(parts)

    def _name(self, name: str, frame: Frame) -> Value:
        if name in frame.names:
            return frame.names[name]
        if name in ("inf", "nan"):
            return number(float(name))
        return Value(ref=name)

    def _attribute(self, node: ast.Attribute, frame: Frame) -> Value:
        path = dotted(node)
        head = path.partition(".")[0]
        if path and head in _ROOTS and head not in frame.names:
            return self.constant(node.attr) if head == "CONSTANTS" else Value(ref=path)
        owner = self._expr(node.value, frame)
        return self.member(owner, node.attr)

    def member(self, owner: Value, name: str) -> Value:
        """``owner.name``: an attribute set by the code, stored in the archive, or declared."""
        if owner.ref:
            return Value(ref=f"{owner.ref}.{name}")
        if name in owner.attributes:
            return owner.attributes[name]
        found = Value()
        script = self.program.classes.get(owner.cls)
        declared = script.fields.get(name, "") if script else ""
        if isinstance(owner.node, Call) and isinstance(owner.node.state, dict):
            found = self.stored(owner.node.state.get(name))
        elif owner.items is not None and script and script.is_tuple:
            index = list(script.fields).index(name) if name in script.fields else -1
            if 0 <= index < len(owner.items):
                return owner.items[index]
        elif not owner.cls and not owner.constant:
            return owner.copy(base=None) if name in ("T", "mT", "H", "data") else Value()
        if not found.cls and declared in self.program.classes:
            found = Value(cls=declared)
        found.stored = found.count == 1 and not isinstance(found.known, bool)
        owner.attributes[name] = found
        return found

    def _dict(self, node: ast.Dict, frame: Frame) -> Value:
        table: dict[str, Value] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            name = key.value if isinstance(key, ast.Constant) else f"?{len(table)}"
            table[str(name)] = self._expr(value, frame)
        return Value(table=table)

    def _subscript(self, node: ast.Subscript, frame: Frame) -> Value:
        owner = self._expr(node.value, frame)
        if owner.ref:
            return Value()
        if owner.table is not None:
            key = node.slice.value if isinstance(node.slice, ast.Constant) else None
            return owner.table.get(str(key)) or union(owner.table.values())
        key_value = self._expr(node.slice, frame)
        if owner.items is None and not owner.constant:
            return self._tensor_index(owner, node.slice, key_value, frame, node)
        return self._operate("__getitem__", [owner, key_value], {}, node, frame)

    def _tensor_index(
        self, owner: Value, key: ast.expr, value: Value, frame: Frame, node: ast.AST
    ) -> Value:
        out = owner
        for axis, part in enumerate(key.elts if isinstance(key, ast.Tuple) else [key]):
            if isinstance(part, ast.Slice):
                ends = [
                    self._expr(e, frame) if e else number(None) for e in (part.lower, part.upper)
                ]
                out = self._operate("slice", [out, number(axis), *ends], {}, node, frame)
            elif isinstance(part, ast.Constant) and part.value is None:
                continue
            else:
                index = value.items[axis] if value.items and axis < len(value.items) else value
                op = "select" if index.constant else "index"
                places = [number(axis), index] if op == "select" else [index]
                out = self._operate(op, [out, *places], {}, node, frame)
        return out

    def _truth(self, value: Value, node: ast.AST, frame: Frame) -> Value:
        if value.constant:
            return value
        merged = union([value])
        return bend(merged.copy(narrow=True), self._step(node, frame), hard=True)

    # calls

    def _call(self, node: ast.Call, frame: Frame) -> Value:
        args = [self._expr(a, frame) for a in node.args]
        named = {k.arg: self._expr(k.value, frame) for k in node.keywords if k.arg}
        if isinstance(node.func, ast.Attribute):
            path = dotted(node.func)
            head = path.partition(".")[0]
            if not (path and head in _ROOTS and head not in frame.names):
                owner = self._expr(node.func.value, frame)
                if not owner.ref:
                    return self._method(owner, node.func.attr, args, named, node, frame)
                path = f"{owner.ref}.{node.func.attr}"
            return self._reference(path, args, named, node, frame)
        function = self._expr(node.func, frame)
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
        return self._operate(name, [owner, *args], named, node, frame)

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
        return self._operate(path, args, named, node, frame)

    def _cast(self, path: str, value: Value, node: ast.AST, frame: Frame) -> Value:
        if value.constant:
            known = value.known
            if isinstance(known, int | float) and abs(known) < 1e300:
                return number({"int": int, "float": float, "bool": bool}[path](known))
            return Value() if known is UNKNOWN else value
        if path == "float":
            return value.copy(narrow=True)
        return self._truth(value, node, frame)

    def _operate(
        self, path: str, args: list[Value], named: dict[str, Value], node: ast.AST, frame: Frame
    ) -> Value:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Exhausted
        op = bare(path)
        step = self._step(node, frame)
        result = operate(op, args, named, step, self.sinks)
        self.bounds.operator(op, args, named, result, step)
        last = path.rpartition(".")[2]
        in_place = last.endswith("_") and not last.endswith("__")
        if in_place and args and op not in ("copy", "fill", "index_put", "zero"):
            overwrite(args[0], result, self.sinks)
            return args[0]
        return result

    def _step(self, node: ast.AST, frame: Frame) -> str:
        line = getattr(node, "lineno", 0)
        return f"{frame.member}:{line} {self.program.line(frame.member, line)}"


def _raises(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and dotted(node.func).endswith("RaiseException")


def _equal(left: object, right: object) -> bool:
    return type(left) is type(right) and left is not UNKNOWN and bool(left == right)


def _forget(value: Value, before: Value | None) -> Value:
    """A loop variable's value after the loop: its first known number is no longer known."""
    if before is None or before is value or isinstance(value.known, type(UNKNOWN)):
        return value
    return value if _equal(value.known, before.known) else value.copy(known=UNKNOWN)
