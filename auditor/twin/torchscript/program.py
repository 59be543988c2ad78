"""A TorchScript graph compiled to a list of Python calls that can be run again and again.

Why not run the graph in torch's own interpreter: there, values inside ``if`` and ``for`` blocks
cannot be seen, parameters cannot be replaced, and hooks do not work. Here every value has a name,
parameters are arguments, and in-place operators keep their meaning because they run as they are.
All floating tensors and dtype constants are brought to one compute dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from auditor import _torch_private as private
from auditor.twin.interface import NoTwin
from auditor.twin.torchscript.ops import ANY_OVERLOAD, EXACT, REFUSED


@dataclass(slots=True)
class Step:
    """One node: call `call` on the slots `inputs`; `dtypes` are argument positions of dtypes."""

    kind: str
    path: str
    call: Callable[..., Any] | None
    inputs: tuple[int, ...]
    keywords: tuple[tuple[str, int], ...]
    outputs: tuple[int, ...]
    dtypes: tuple[int, ...] = ()
    blocks: tuple[Block, ...] = ()
    number: int = 0
    drop: tuple[int, ...] = ()
    """Slots nothing after this step reads."""

    @property
    def mutates(self) -> bool:
        """True when the operator writes into its first argument."""
        return self.kind.endswith("_") and not self.kind.endswith("__")


@dataclass(slots=True)
class Block:
    """A straight list of steps with its own parameters (a loop's counter, ...) and results."""

    parameters: tuple[int, ...]
    steps: list[Step]
    results: tuple[int, ...]


@dataclass(slots=True)
class Program:
    """A compiled ``forward``: fill `constants` and `tensors` into an environment and run `body`.

    `tensors` maps slots to parameter paths, or to graph constants by ``#<number>``. `values` holds
    those tensors as stored. `input` is the slot of the one image input.
    """

    body: Block
    input: int
    slots: int
    constants: dict[int, Any]
    tensors: dict[int, str]
    values: dict[str, Tensor]
    mutates: bool
    kinds: dict[str, int] = field(default_factory=dict)


class _Compiler:
    def __init__(self, module: Any, device: str) -> None:
        self.device = device
        self.slot_of: dict[str, int] = {}
        self.owners: dict[int, tuple[str, Any]] = {}
        self.constants: dict[int, Any] = {}
        self.tensors: dict[int, str] = {}
        self.values: dict[str, Tensor] = {}
        self.kinds: dict[str, int] = {}
        self.mutates = False
        self.count = 0
        graph = private.inlined_forward(module)
        owner, image, *others = list(graph.inputs())
        self.owners[self.slot(owner)] = ("", module)
        self.input = self.slot(image)
        arguments = private.forward_arguments(module)
        if len(arguments) - len(others) != 1:
            raise NoTwin("the archive's forward has variable arguments")
        schema = module.forward.schema.arguments[2:]
        for value, argument in zip(others, schema, strict=True):
            if not argument.has_default_value():
                names = ", ".join(name for name, _, default in arguments if not default)
                raise NoTwin(f"the model takes several inputs ({names}), not one image")
            self.constants[self.slot(value)] = argument.default_value
        self.body = self.block(graph, list(graph.outputs()))

    def slot(self, value: Any) -> int:
        return self.slot_of.setdefault(value.debugName(), len(self.slot_of))

    def block(self, block: Any, results: list[Any], parameters: tuple[int, ...] = ()) -> Block:
        steps: list[Step] = []
        for node in block.nodes():
            step = self.step(node)
            if step is not None:
                step.number = self.count
                self.count += 1
                steps.append(step)
        return Block(parameters, steps, tuple(self.slot(v) for v in results))

    def step(self, node: Any) -> Step | None:
        kind = node.kind()
        if kind == "prim::Constant":
            self.constant(node)
            return None
        if kind == "prim::GetAttr":
            self.attribute(node)
            return None
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        inputs = tuple(self.slot(v) for v in node.inputs())
        step = Step(kind, "", None, inputs, (), ())
        if kind in ("prim::If", "prim::Loop"):
            step.blocks = tuple(
                self.block(b, list(b.outputs()), tuple(self.slot(v) for v in b.inputs()))
                for b in node.blocks()
            )
        elif kind == "prim::SetAttr":
            step.call = _set_attribute
        else:
            self.operator(node, step)
        step.outputs = tuple(self.slot(v) for v in node.outputs())
        return step

    def constant(self, node: Any) -> None:
        slot = self.slot(node.output())
        value = private.constant(node)
        if isinstance(value, torch.device):
            value = torch.device(self.device)
        if isinstance(value, Tensor) and value.is_floating_point():
            name = f"#{slot}"
            self.tensors[slot], self.values[name] = name, value
        else:
            self.constants[slot] = _plain(value, node)

    def attribute(self, node: Any) -> None:
        slot, name = self.slot(node.output()), node.s("name")
        owner = self.owners.get(self.slot(next(node.inputs())))
        if owner is None:
            raise NoTwin(f"the archive picks the owner of attribute {name!r} while running")
        path = f"{owner[0]}.{name}" if owner[0] else name
        value = private.attribute(owner[1], name)
        if isinstance(value, Tensor) and value.is_floating_point():
            self.tensors[slot], self.values[path] = path, value
        elif isinstance(value, torch._C.ScriptObject | torch.jit.ScriptModule):
            if "classes.quantized" in str(node.output().type()):
                raise NoTwin(
                    "quantized TorchScript keeps packed weights torch cannot differentiate"
                )
            self.owners[slot] = (path, value)
        else:
            self.constants[slot] = _plain(value, node)

    def operator(self, node: Any, step: Step) -> None:
        kind = step.kind
        space = kind.partition("::")[0]
        if space == "quantized":
            raise NoTwin(f"quantized TorchScript has no derivative (operator {kind})")
        if space not in ("aten", "prim") or kind in REFUSED:
            raise NoTwin(f"the archive uses {kind}, which the twin does not run")
        step.path = private.module_path(node)
        found = private.operator(node.schema()) if not node.schema().startswith("(") else None
        name = f"{kind}.{found.overload}" if found and found.overload else kind
        own = EXACT.get(name) or ANY_OVERLOAD.get(kind)
        if own is None and found is None:
            raise NoTwin(f"the archive uses {kind}, which the twin does not know")
        self.mutates |= step.mutates
        step.call = own or (found.call if found else None)
        if found is None or own is not None:
            return
        positional = [a for a in found.arguments if not a[2]]
        step.keywords = tuple(
            (argument[0], slot)
            for argument, slot in zip(found.arguments, step.inputs, strict=False)
            if argument[2]
        )
        step.inputs = step.inputs[: len(positional)]
        step.dtypes = tuple(i for i, a in enumerate(positional) if a[0] == "dtype")


def _plain(value: Any, node: Any) -> Any:
    if isinstance(value, torch._C.ScriptObject):
        raise NoTwin(f"the archive keeps an object of class {node.output().type()}")
    return value


def _set_attribute(*_: Any) -> None:
    raise NoTwin("the archive changes its own attributes while running")


def compile_program(module: Any, device: str = "cpu") -> Program:
    """Compile `forward` of a loaded script module.

    Raises `NoTwin` naming the first operator or construct that cannot be interpreted.
    """
    compiler = _Compiler(module, device)
    _plan_drops(compiler.body, set(compiler.tensors) | set(compiler.constants))
    return Program(
        compiler.body,
        compiler.input,
        len(compiler.slot_of),
        compiler.constants,
        compiler.tensors,
        compiler.values,
        compiler.mutates,
        compiler.kinds,
    )


def _uses(step: Step) -> set[int]:
    used = {*step.inputs, *(slot for _, slot in step.keywords)}
    for block in step.blocks:
        used.update(block.results)
        for inner in block.steps:
            used |= _uses(inner)
    return used


def _plan_drops(body: Block, keep: set[int]) -> None:
    """Free each value of the outermost block after its last reader: memory as in eager torch."""
    last: dict[int, Step] = {}
    for step in body.steps:
        for slot in _uses(step) | set(step.outputs):
            last[slot] = step
    for slot, step in last.items():
        if slot not in keep and slot not in body.results:
            step.drop = (*step.drop, slot)
