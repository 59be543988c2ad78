"""The one adapter around torch's TorchScript and other private calls.

TorchScript is deprecated and most of what a graph reader needs is reachable only through
``torch._C``. Everything of that kind is here, so that a new torch breaks one file; the test
``tests/twin/test_torchscript_private.py`` names the versions the calls were verified on and runs
each of them. Import this module only in the sandbox child or inside functions: it imports torch.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

from auditor.errors import UnreadableArtifact

VERIFIED_VERSIONS = ("2.15",)
"""Torch versions (major.minor) on which the calls below were tried."""

Graph: TypeAlias = Any
Node: TypeAlias = Any
Value: TypeAlias = Any
ScriptModule: TypeAlias = Any

_HIERARCHY = re.compile(r"([^.()]+)\(([^()]*)\)")


@contextmanager
def torchscript_warnings_ignored() -> Iterator[None]:
    """Silence what torch.jit says about its own deprecation, and only inside this block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_script(path: Path) -> ScriptModule:
    """`torch.jit.load` on the CPU, in evaluation mode; runs the archive's ``__setstate__`` code.

    Raises `UnreadableArtifact` in one sentence when torch refuses the archive.
    """
    with torchscript_warnings_ignored():
        try:
            module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        except Exception as error:
            raise UnreadableArtifact(f"{path}: {_why_not(error)}") from error
        # A frozen archive has no `training` attribute: it is in evaluation mode for good.
        with contextlib.suppress(RuntimeError):
            module.eval()
    return module


def _why_not(error: Exception) -> str:
    text = str(error)
    if "required keyword attribute 'value'" in text:
        return (
            "torch cannot load this TorchScript archive again; it was probably saved after "
            "torch.jit.optimize_for_inference, so ask for the archive from before that step."
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"torch.jit.load refuses this archive ({(lines or [type(error).__name__])[0][:200]})."


def plain_execution() -> Any:
    """A context in which torch.jit interprets as is, without its profiling and slow first runs."""
    return torch.jit.optimized_execution(False)  # type: ignore[attr-defined]


def inlined_forward(module: ScriptModule) -> Graph:
    """A private copy of the graph of `forward` with every call inlined; input 0 is `self`."""
    return module.inlined_graph.copy()


def forward_arguments(module: ScriptModule) -> list[tuple[str, str, bool]]:
    """(name, type, has a default) of each argument of `forward`, without `self`."""
    arguments = module.forward.schema.arguments[1:]
    return [(a.name, str(a.type), a.has_default_value()) for a in arguments]


def attribute(owner: Any, name: str) -> Any:
    """The attribute `name` of a script module or object; a submodule comes as script object."""
    return getattr(owner, "_c", owner).getattr(name)


def module_path(node: Node) -> str:
    """Dotted path of the submodule this inlined node came from (``features.0``), or ``""``."""
    return ".".join(
        name for name, _ in _HIERARCHY.findall(node.getModuleHierarchy()) if _is_path(name)
    )


def _is_path(name: str) -> bool:
    return name not in {"SELF", "UNKNOWN_INSTANCE", "top", "INLINED"}


def constant(node: Node) -> Any:
    """The Python value of a ``prim::Constant`` node (None for the constant None)."""
    return node.output().toIValue()


@dataclass(frozen=True, slots=True)
class Operator:
    """A resolved operator overload to `call`; `arguments` are (name, type, by keyword)."""

    name: str
    overload: str
    call: Callable[..., Any]
    arguments: tuple[tuple[str, str, bool], ...]


@lru_cache(maxsize=4096)
def operator(schema: str) -> Operator | None:
    """The operator a node's schema text stands for, or None when torch knows no such overload."""
    try:
        parsed = torch._C.parse_schema(schema)
        found: Any = torch._C._get_operation_overload(parsed.name, parsed.overload_name)
    except RuntimeError:
        return None
    if found is None:
        return None
    arguments = tuple((a.name, str(a.type), bool(a.kwarg_only)) for a in parsed.arguments)
    return Operator(parsed.name, parsed.overload_name, found[0], arguments)


def replace_devices(module: ScriptModule, device: str = "cpu") -> int:
    """Point every device written into the code (a trace made on a GPU) at `device`; how many."""
    changed = 0
    methods = (m._c._get_method(n) for m in module.modules() for n in m._c._method_names())
    for method in methods:
        for node in method.graph.findAllNodes("prim::Constant"):
            if str(node.output().type()) != "Device" or not node.hasAttribute("value"):
                continue
            if node.s("value").split(":")[0] != device:
                node.s_("value", device)
                changed += 1
    return changed


def load_exported(path: Path) -> Any:
    """`torch.export.load`: the ``ExportedProgram``. Unpickles payloads, so in the child only.

    Raises `UnreadableArtifact` in one sentence when torch refuses the archive.
    """
    with torchscript_warnings_ignored():
        try:
            return torch.export.load(str(path))
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = (lines or [type(error).__name__])[0][:200]
            raise UnreadableArtifact(f"{path}: torch.export.load refuses it ({reason}).") from error


def exported_module(program: Any) -> Any:
    """The program as a module that takes any batch its operators take.

    The guards only repeat what the export promised (a batch of at least two, ...); the operators
    raise by themselves where a size is truly fixed.
    """
    with torchscript_warnings_ignored():
        try:
            return program.module(check_guards=False)
        except TypeError:
            return program.module()
