"""The abstract value of each kind of TorchScript expression."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod

from auditor.artifacts.torch_archive import Call
from auditor.checks.file.torch_flow import Value, number, union
from auditor.checks.file.torch_join import merge
from auditor.checks.file.torch_machine import Frame, Machine
from auditor.checks.file.torch_source import dotted

ROOTS = ("torch", "ops", "__torch__", "CONSTANTS")
"""Names that start a path into torch or the archive unless a variable has them."""

BINARY = {
    "Add": "add", "Sub": "sub", "Mult": "mul", "Div": "div", "FloorDiv": "floordiv",
    "Mod": "remainder", "Pow": "pow", "MatMult": "matmul", "BitAnd": "__and__",
    "BitOr": "__or__", "BitXor": "__xor__", "LShift": "__lshift__", "RShift": "__rshift__",
}  # fmt: skip
_COMPARE = {
    "Gt": "gt", "Lt": "lt", "GtE": "ge", "LtE": "le", "Eq": "eq", "NotEq": "ne",
    "Is": "__is__", "IsNot": "__isnot__", "In": "__contains__", "NotIn": "__contains__",
}  # fmt: skip


class Expressions(Machine, ABC):
    """Evaluates expressions; what a call does is left to `invoke`."""

    @abstractmethod
    def invoke(self, node: ast.Call, frame: Frame) -> Value:
        """The abstract result of the call `node`."""

    def expression(self, node: ast.expr, frame: Frame) -> Value:
        """The abstract value of `node`."""
        if isinstance(node, ast.Constant):
            return number(node.value)
        if isinstance(node, ast.Name):
            return self._name(node.id, frame)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, frame)
        if isinstance(node, ast.Call):
            return self.invoke(node, frame)
        if isinstance(node, ast.Tuple | ast.List):
            return Value(items=[self.expression(e, frame) for e in node.elts])
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
            return self.apply(op, [self.expression(node.operand, frame)], {}, node, frame)
        if isinstance(node, ast.BinOp):
            op = BINARY.get(type(node.op).__name__, "add")
            parts = [self.expression(node.left, frame), self.expression(node.right, frame)]
            return self.apply(op, parts, {}, node, frame)
        if isinstance(node, ast.BoolOp):
            values = [self.expression(v, frame) for v in node.values]
            return self.apply("__and__", values, {}, node, frame)
        if isinstance(node, ast.Compare):
            parts = [
                self.expression(node.left, frame),
                *(self.expression(c, frame) for c in node.comparators),
            ]
            op = _COMPARE.get(type(node.ops[0]).__name__, "eq")
            return self.apply(op, parts, {}, node, frame)
        if isinstance(node, ast.IfExp):
            test = self.truth(self.expression(node.test, frame), node, frame)
            yes, no = self.expression(node.body, frame), self.expression(node.orelse, frame)
            return merge(self.sinks, test, yes, no, self.step_at(node, frame))
        parts = [
            self.expression(c, frame) for c in ast.iter_child_nodes(node) if isinstance(c, ast.expr)
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
        if path and head in ROOTS and head not in frame.names:
            return self.constant(node.attr) if head == "CONSTANTS" else Value(ref=path)
        owner = self.expression(node.value, frame)
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
            table[str(name)] = self.expression(value, frame)
        return Value(table=table)

    def _subscript(self, node: ast.Subscript, frame: Frame) -> Value:
        owner = self.expression(node.value, frame)
        if owner.ref:
            return Value()
        if owner.table is not None:
            key = node.slice.value if isinstance(node.slice, ast.Constant) else None
            return owner.table.get(str(key)) or union(owner.table.values())
        key_value = self.expression(node.slice, frame)
        if owner.items is None and not owner.constant:
            return self._tensor_index(owner, node.slice, key_value, frame, node)
        return self.apply("__getitem__", [owner, key_value], {}, node, frame)

    def _tensor_index(
        self, owner: Value, key: ast.expr, value: Value, frame: Frame, node: ast.AST
    ) -> Value:
        out = owner
        for axis, part in enumerate(key.elts if isinstance(key, ast.Tuple) else [key]):
            if isinstance(part, ast.Slice):
                ends = [
                    self.expression(e, frame) if e else number(None)
                    for e in (part.lower, part.upper)
                ]
                out = self.apply("slice", [out, number(axis), *ends], {}, node, frame)
            elif isinstance(part, ast.Constant) and part.value is None:
                continue
            else:
                index = value.items[axis] if value.items and axis < len(value.items) else value
                op = "select" if index.constant else "index"
                places = [number(axis), index] if op == "select" else [index]
                out = self.apply(op, [out, *places], {}, node, frame)
        return out
