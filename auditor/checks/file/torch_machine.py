"""What every step of an abstract run shares: its bounds, the operators, its place in the code."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

from auditor.checks.file.torch_bounds import Bounds
from auditor.checks.file.torch_flow import Value, bend, union
from auditor.checks.file.torch_ops import operate
from auditor.checks.file.torch_optables import bare
from auditor.checks.file.torch_sinks import Sinks, overwrite
from auditor.checks.file.torch_source import Program

MAX_STEPS = 250_000


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


def perform(
    op: str,
    word: str,
    args: list[Value],
    named: dict[str, Value],
    step: str,
    sinks: Sinks,
    bounds: Bounds,
) -> Value:
    """The result of operator `op`, noted in `sinks` and `bounds`.

    `word` is how it was called: ``add_`` changes its first operand.
    """
    result = operate(op, args, named, step, sinks)
    bounds.operator(op, args, named, step)
    in_place = word.endswith("_") and not word.endswith("__")
    if in_place and args and op not in ("copy", "fill", "index_put", "zero"):
        overwrite(args[0], result, sinks)
        return args[0]
    return result


class Machine:
    """The state of a run; `constant` and `stored` make the archive's values."""

    def __init__(
        self, program: Program, constant: Callable[[str], Value], stored: Callable[[object], Value]
    ) -> None:
        self.program = program
        self.sinks = Sinks()
        self.bounds = Bounds()
        self.constant = constant
        self.stored = stored
        self.steps = 0

    def tick(self) -> None:
        """Count one step; `Exhausted` beyond the bound."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Exhausted

    def apply(
        self, path: str, args: list[Value], named: dict[str, Value], node: ast.AST, frame: Frame
    ) -> Value:
        """The abstract result of an operator, noted in the sinks and the bounds."""
        self.tick()
        step = self.step_at(node, frame)
        word = path.rpartition(".")[2]
        return perform(bare(path), word, args, named, step, self.sinks, self.bounds)

    def truth(self, value: Value, node: ast.AST, frame: Frame) -> Value:
        """`value` asked for yes or no: a gate, where it holds data."""
        if value.constant:
            return value
        merged = union([value])
        return bend(merged.copy(narrow=True), self.step_at(node, frame), hard=True)

    def step_at(self, node: ast.AST, frame: Frame) -> str:
        """The place of `node` and its line of code, as findings name it."""
        line = getattr(node, "lineno", 0)
        return f"{frame.member}:{line} {self.program.line(frame.member, line)}"
