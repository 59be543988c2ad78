"""TorchScript sources as Python syntax trees, indexed by qualified name. Parsed, never loaded."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_SOURCE = 8 << 20
MAX_NESTING = 90
MAX_CHAIN = 800


@dataclass(frozen=True, slots=True)
class Function:
    """One function or method; `member` is the archive member it stands in."""

    name: str
    member: str
    node: ast.FunctionDef


@dataclass(frozen=True, slots=True)
class ScriptClass:
    """One scripted class: annotated fields (as source text) and methods."""

    name: str
    fields: Mapping[str, str]
    methods: Mapping[str, Function]
    is_tuple: bool = False


@dataclass(slots=True)
class Program:
    """All classes and functions by qualified name (``__torch__.Net``).

    `unparsed` maps members that are no Python to the reason; `lines` keeps every member's lines.
    """

    classes: dict[str, ScriptClass] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    trees: dict[str, ast.Module] = field(default_factory=dict)
    unparsed: dict[str, str] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)

    def line(self, member: str, number: int) -> str:
        """The source line, stripped and cut to 160 characters."""
        lines = self.lines.get(member, [])
        return lines[number - 1].strip()[:160] if 0 < number <= len(lines) else ""


def module_name(member: str) -> str:
    """``code/__torch__/a/b.py`` -> ``__torch__.a.b``."""
    return member.removeprefix("code/").removesuffix(".py").replace("/", ".")


_STRINGS = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_CHAINS = re.compile(
    rf"([-+~]\s*){{{MAX_CHAIN},}}|(not\s+){{{MAX_CHAIN},}}|(\.\w+){{{MAX_CHAIN},}}"
)


def too_complex(text: str) -> str:
    """Why `text` would overflow the parser's stack, '' if it would not."""
    bare = _STRINGS.sub("''", text)
    depth = 0
    for character in bare:
        if character in "([{":
            depth += 1
            if depth > MAX_NESTING:
                return f"brackets nest deeper than {MAX_NESTING}"
        elif character in ")]}":
            depth = max(0, depth - 1)
    if _CHAINS.search(bare):
        return "an operator chain is longer than any compiler writes"
    for line in bare.splitlines():
        if len(line) - len(line.lstrip()) > 4 * MAX_NESTING:
            return f"blocks nest deeper than {MAX_NESTING}"
        if sum(line.count(sign) for sign in "+-*/%&|^<>") > MAX_CHAIN:
            return "an expression is longer than any compiler writes"
    return ""


def parse(sources: Mapping[str, str]) -> Program:
    """Parse every source. Members that cannot be parsed stand in `Program.unparsed`."""
    program = Program()
    left = MAX_SOURCE
    for member, text in sources.items():
        program.lines[member] = text.splitlines()
        left -= len(text)
        reason = "there is too much code" if left < 0 else too_complex(text)
        if not reason:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # invalid escapes in strings
                    tree = ast.parse(text)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                reason = f"{type(error).__name__}: {error}"[:200]
        if reason:
            program.unparsed[member] = reason
        else:
            program.trees[member] = tree
            _index(program, member, tree)
    return program


def _index(program: Program, member: str, tree: ast.Module) -> None:
    prefix = module_name(member)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            name = f"{prefix}.{node.name}"
            program.functions[name] = Function(name, member, node)
        elif isinstance(node, ast.ClassDef):
            name = f"{prefix}.{node.name}"
            program.classes[name] = _class(name, member, node)


def _class(name: str, member: str, node: ast.ClassDef) -> ScriptClass:
    fields: dict[str, str] = {}
    methods: dict[str, Function] = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            fields[item.target.id] = _unparse(item.annotation)
        elif isinstance(item, ast.FunctionDef):
            methods[item.name] = Function(f"{name}.{item.name}", member, item)
        elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Subscript):
            key = item.targets[0].slice  # __annotations__["0"] = ...: names that are no identifiers
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                fields[key.value] = _unparse(item.value)
    is_tuple = any(isinstance(base, ast.Name) and base.id == "NamedTuple" for base in node.bases)
    return ScriptClass(name, fields, methods, is_tuple)


def _unparse(node: ast.expr) -> str:
    try:
        return ast.unparse(node)[:500]
    except RecursionError:
        return ""


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of a name or attribute chain, '' for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])
