"""Run TorchScript code on abstract values: what comes from where, never what it is.

Every call into the archive's own code is followed, so a gate in a helper, a submodule or a loop is
seen like one in ``forward``. Steps and call depth are bounded; what was cut off is counted. Here
are the statements; `torch_expressions` and `torch_calls` hold the rest of the language.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from auditor.checks.file.torch_calls import Calls
from auditor.checks.file.torch_expressions import BINARY
from auditor.checks.file.torch_flow import UNKNOWN, Value, becomes_state, flatten, number, union
from auditor.checks.file.torch_join import forget, merge, merge_names, merge_returns
from auditor.checks.file.torch_machine import Frame
from auditor.checks.file.torch_source import Function, dotted


class Interpreter(Calls):
    """Abstract runs over a parsed program."""

    def block(self, body: Sequence[ast.stmt], frame: Frame) -> bool:
        """Execute statements; True when the block ends the function or always raises."""
        for statement in body:
            self.tick()
            if self._statement(statement, frame):
                return True
        return False

    def _statement(self, node: ast.stmt, frame: Frame) -> bool:
        if isinstance(node, ast.Assign):
            value = self.expression(node.value, frame)
            for target in node.targets:
                self._assign(target, value, frame)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self._assign(node.target, self.expression(node.value, frame), frame)
        elif isinstance(node, ast.AugAssign):
            op = BINARY.get(type(node.op).__name__, "add")
            parts = [self.expression(node.target, frame), self.expression(node.value, frame)]
            value = self.apply(op, parts, {}, node, frame)
            self._assign(node.target, value, frame)
        elif isinstance(node, ast.Expr):
            self.expression(node.value, frame)
            return _raises(node.value)
        elif isinstance(node, ast.Return):
            value = self.expression(node.value, frame) if node.value else number(None)
            self._return(value, node, frame)
            return True
        elif isinstance(node, ast.If):
            return self._if(node, frame)
        elif isinstance(node, ast.For | ast.While):
            self._loop(node, frame)
        elif isinstance(node, ast.With):
            for item in node.items:
                self.expression(item.context_expr, frame)
            return self.block(node.body, frame)
        elif isinstance(node, ast.FunctionDef):
            function = Function(node.name, frame.member, node)
            frame.names[node.name] = Value(node=(function, frame.names))
        return isinstance(node, ast.Raise | ast.Break | ast.Continue)

    def _return(self, value: Value, node: ast.AST, frame: Frame) -> None:
        step = self.step_at(node, frame)
        if frame.returned is None:
            frame.returned = value
            return
        frame.returned = merge(self.sinks, frame.pending or Value(), frame.returned, value, step)

    def _if(self, node: ast.If, frame: Frame) -> bool:
        test = self.truth(self.expression(node.test, frame), node, frame)
        if isinstance(test.known, bool | int) or test.known is None:
            return self.block(node.body if test.known else node.orelse, frame)
        before = frame.names
        had = frame.returned
        ends, results, answers = [], [], []
        for body in (node.body, node.orelse):
            frame.names, frame.returned = dict(before), had
            self.sinks.control.append(test)
            ends.append(self.block(body, frame))
            self.sinks.control.pop()
            results.append(frame.names)
            answers.append(frame.returned)
        step = self.step_at(node, frame)
        frame.returned = merge_returns(self.sinks, test, answers[0], answers[1], step)
        if ends[0] and ends[1]:
            return True
        if ends[0] or ends[1]:
            frame.names = results[1] if ends[0] else results[0]
            if frame.returned is not had:
                frame.pending = test  # what follows runs when the early return was not taken
            return False
        frame.names = merge_names(self.sinks, test, results[0], results[1], step)
        return False

    def _loop(self, node: ast.For | ast.While, frame: Frame) -> None:
        trips: object = UNKNOWN
        condition = Value()
        if isinstance(node, ast.For):
            source = self.expression(node.iter, frame)
            trips = source.known if isinstance(source.known, int) else UNKNOWN
            condition = self.truth(source, node, frame) if not source.items else Value()
            item = union(source.items) if source.items else source.copy(known=UNKNOWN)
            self.bounds.loop(trips, source, self.step_at(node, frame))
        entered: Value | None = None
        depth = len(self.sinks.control)
        for turn in range(2):
            if isinstance(node, ast.While):
                condition = self.truth(self.expression(node.test, frame), node, frame)
                if condition.known is False:
                    break
                entered = entered or condition
            else:
                self._assign(node.target, item, frame)
            before = dict(frame.names)
            self.sinks.control.append(condition)
            self.bounds.enter(trips)
            self.block(node.body, frame)
            self.bounds.leave()
            del self.sinks.control[depth:]
            after = frame.names
            # Only the second turn tells: a counter is no longer a known number then.
            if turn and isinstance(node, ast.While) and _endless(node, entered, after):
                self.bounds.endless(self.step_at(node, frame))
            test = condition.copy(known=UNKNOWN)
            if isinstance(node, ast.For) and condition.constant:
                frame.names = {k: forget(v, before.get(k)) for k, v in after.items()}
            else:
                frame.names = merge_names(
                    self.sinks, test, after, before, self.step_at(node, frame)
                )

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
            owner = self.expression(target.value, frame)
            changed = value is not owner.attributes.get(target.attr)
            if changed and owner.cls and value.stored and frame.running:
                becomes_state(value, f"{target.attr}")
            owner.attributes[target.attr] = value
        elif isinstance(target, ast.Subscript):
            owner = self.expression(target.value, frame)
            if owner.items is not None or owner.table is not None:
                owner.items, owner.table = [*(owner.items or []), value], None
                return
            keys = flatten([self.expression(target.slice, frame)])
            self.sinks.assign(owner, value, keys, self.step_at(target, frame))


def _raises(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and dotted(node.func).endswith("RaiseException")


def _endless(node: ast.While, entered: Value | None, names: dict[str, Value]) -> bool:
    """True when nothing ends the loop: its condition stays a known True."""
    if entered is None or entered.known is not True:
        return False
    if any(isinstance(n, ast.Break | ast.Return | ast.Raise) for n in ast.walk(node)):
        return False
    if any(_raises(n.value) for n in ast.walk(node) if isinstance(n, ast.Expr)):
        return False
    now = names.get(node.test.id) if isinstance(node.test, ast.Name) else entered
    return now is not None and now.known is True
