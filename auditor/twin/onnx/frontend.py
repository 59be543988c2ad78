"""onnx-ir graph -> program: slots, steps, parameters, and everything that can be computed once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from auditor.artifacts.onnx_load import (
    INLINE_PROBLEM,
    STORED_VALUES,
    all_nodes,
    operator_name,
    opset_of,
    stored_value,
    tensor_array,
)
from auditor.errors import UnreadableArtifact
from auditor.twin.interface import NoTwin
from auditor.twin.onnx.program import Block, Slots, Step, execute
from auditor.twin.onnx.registry import NO_GRADIENT, Node, load_operators

CONTROL = {"If", "Loop"}
_TYPE_ATTRIBUTES = {"to", "dtype", "output_dtype"}
_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli"}
_SHAPE_ONLY = {"Shape", "Size"}
_FREE: tuple[bool, bool, frozenset[str]] = (False, False, frozenset())
"""Depends on neither the image nor a parameter."""


@dataclass(slots=True)
class Program:
    """What the twin runs. `slots` holds constants and parameters; `steps` need the image.

    `derived` steps compute from parameters alone: already executed, repeated for those whose
    parameters are replaced. `nodes` maps each step's first output to its IR node.
    """

    model: ir.Model
    input: int
    outputs: tuple[int, ...]
    slots: Slots
    steps: list[Step]
    derived: list[Step]
    parameters: dict[str, int]
    values: dict[ir.Value, int]
    without_gradient: tuple[str, ...]
    folded: set[int] = field(default_factory=set)


def image_input(model: ir.Model) -> ir.Value:
    """The one real input (initializers may be listed as inputs too). Raises `NoTwin`."""
    constants = set(model.graph.initializers)
    inputs = [value for value in model.graph.inputs if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(str(value.name) for value in inputs[:5]) or "none"
        raise NoTwin(f"The model has {len(inputs)} inputs ({names}); one image input is needed.")
    return inputs[0]


def compile_model(model: ir.Model, *, dtype: torch.dtype, device: torch.device) -> Program:
    """Compile `model`. Raises `NoTwin` naming what is missing."""
    if INLINE_PROBLEM in model.meta:
        raise NoTwin(f"No twin: {model.meta[INLINE_PROBLEM]}.")
    if not model.graph.outputs:
        raise NoTwin("The graph has no output.")
    operators = load_operators()
    used = {operator_name(node) for node in all_nodes(model)}
    missing = sorted(used - set(operators) - CONTROL)
    if missing:
        names = ", ".join(name if name.isprintable() else ascii(name) for name in missing)
        raise NoTwin(f"No differentiable form of {names}.")
    try:
        return _Compiler(model, dtype, device).compile()
    except NoTwin:
        raise
    except Exception as error:  # attributes of the wrong kind, operators without inputs, ...
        reason = (str(error).splitlines() or [""])[0][:160]
        raise NoTwin(f"The graph cannot be read: {type(error).__name__} {reason}") from error


class _Compiler:
    def __init__(self, model: ir.Model, dtype: torch.dtype, device: torch.device) -> None:
        self.model = model
        self.dtype = dtype
        self.device = device
        self.operators = load_operators()
        self.stored = model.meta.get(STORED_VALUES, set())
        self.slots: Slots = []
        self.values: dict[ir.Value, int] = {}
        self.parameters: dict[str, int] = {}
        # What each slot depends on: (image values, image shape, parameters).
        self.depends: dict[int, tuple[bool, bool, frozenset[str]]] = {}

    def compile(self) -> Program:
        image = image_input(self.model)
        source = self._slot(image)
        self.depends[source] = (True, True, frozenset())
        self._load_initializers(self.model.graph, parameters=True)
        steps, derived = [], []
        for step in self._steps(self.model.graph, top=True):
            if step.data or step.shape or step.node.op in _RANDOM:
                steps.append(step)
            else:
                self._fold(step)
                if step.roots:
                    derived.append(step)
        steps = self._needed(steps)
        return Program(
            model=self.model,
            input=source,
            outputs=tuple(self._slot(value) for value in self.model.graph.outputs),
            slots=self.slots,
            steps=steps,
            derived=derived,
            parameters=self.parameters,
            values=self.values,
            without_gradient=tuple(sorted(self._blocking(steps))),
        )

    def _slot(self, value: ir.Value | None) -> int:
        if value is None or (value.name == "" and value.producer() is None):
            return -1
        if value not in self.values:
            self.values[value] = len(self.slots)
            self.slots.append(None)
        return self.values[value]

    def _load_initializers(self, graph: ir.Graph, *, parameters: bool) -> None:
        for name, value in graph.initializers.items():
            slot = self._slot(value)
            if value.const_value is None or not (value.uses() or value.is_graph_output()):
                continue
            self._bind(slot, name, value.const_value, parameters=parameters)

    def _bind(self, slot: int, name: str, tensor: Any, *, parameters: bool) -> None:
        """Put a stored tensor into its slot; floats with an axis are parameters."""
        try:
            value = self._tensor(tensor)
        except UnreadableArtifact as error:
            raise NoTwin(str(error)) from error
        self.slots[slot] = value
        roots: frozenset[str] = frozenset()
        if parameters and _weighs(value):
            self.parameters[name] = slot
            roots = frozenset({name})
        self.depends[slot] = (False, False, roots)

    def _tensor(self, tensor: Any) -> Tensor:
        if tensor.dtype == ir.DataType.STRING:
            raise NoTwin(f"Tensor {tensor.name!r} holds strings.")
        array = tensor_array(tensor)
        if array.dtype == np.bool_ or array.dtype in (np.int8, np.uint8):
            return torch.from_numpy(np.array(array)).to(self.device)
        if tensor.dtype.is_floating_point():
            wide = np.float64 if self.dtype == torch.float64 else np.float32
            result = torch.from_numpy(np.array(array, dtype=wide)).to(self.dtype)
            return result.to(self.device) if result.dim() else result
        return torch.from_numpy(array.astype(np.int64))

    def _steps(self, graph: ir.Graph, *, top: bool = False) -> Iterator[Step]:
        """Steps of `graph` in order; at the top, stored tensors become constants at once."""
        for node in graph:
            if node.op_type == "Constant" and "value" in node.attributes:
                value = stored_value(node)
                if value is None:
                    raise NoTwin(f"Constant {_name(node)!r} holds no tensor.")
                own = top and _name(node) in self.stored
                self._bind(self._slot(node.outputs[0]), _name(node), value, parameters=own)
                continue
            if top and (chosen := self._decided(node)) is not None:
                yield from self._in_place(node, chosen)
                continue
            step = self._step(node)
            self._note(step)
            if top and node.op_type == "ConstantOfShape" and not (step.data or step.shape):
                self._fold(step)
                self._adopt(step, _name(node))
                continue
            yield step

    def _decided(self, node: ir.Node) -> ir.Graph | None:
        """The branch that an If on a stored condition always takes."""
        if node.op_type != "If" or node.inputs[0] is None:
            return None
        condition = self.slots[self._slot(node.inputs[0])]
        if condition is None or self.depends[self._slot(node.inputs[0])] != _FREE:
            return None
        taken = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
        return node.attributes[taken].as_graph()

    def _in_place(self, node: ir.Node, branch: ir.Graph) -> Iterator[Step]:
        """The steps of `branch`; what it makes becomes what `node` makes."""
        self._load_initializers(branch, parameters=False)
        yield from self._steps(branch, top=True)
        for value, inner in zip(node.outputs, branch.outputs, strict=True):
            self.values[value] = self._slot(inner)

    def _adopt(self, step: Step, name: str) -> None:
        """Weights made by ConstantOfShape from a stored shape are parameters like any other."""
        slot = step.outputs[0]
        value = self.slots[slot]
        if name in self.stored and _weighs(value):
            self.parameters[name] = slot
            self.depends[slot] = (False, False, frozenset({name}))

    def _step(self, node: ir.Node) -> Step:
        name = operator_name(node)
        blocks = tuple(self._block(graph) for graph in _subgraphs(node))
        return Step(
            function=None if name in CONTROL else self.operators[name],
            node=self._node(node, name),
            inputs=tuple(self._slot(value) for value in node.inputs),
            outputs=tuple(self._slot(value) for value in node.outputs),
            blocks=blocks,
        )

    def _block(self, graph: ir.Graph) -> Block:
        self._load_initializers(graph, parameters=False)
        inputs = tuple(self._slot(value) for value in graph.inputs)
        for slot in inputs:
            self.depends[slot] = (True, True, frozenset())
        steps = list(self._steps(graph))
        return Block(inputs, tuple(self._slot(value) for value in graph.outputs), steps)

    def _node(self, node: ir.Node, name: str) -> Node:
        return Node(
            op=name,
            name=node.name or "",
            opset=opset_of(self.model, node),
            attributes={k: self._attribute(k, a) for k, a in node.attributes.items()},
            outputs=len(node.outputs),
            dtype=self.dtype,
            device=self.device,
            dtypes=tuple(v.dtype.name if v is not None and v.dtype else None for v in node.inputs),
        )

    def _attribute(self, name: str, attribute: ir.Attr) -> Any:
        if attribute.type == ir.AttributeType.TENSOR:
            return self._tensor(attribute.as_tensor()).cpu()
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            return None
        value = attribute.value
        if name in _TYPE_ATTRIBUTES and isinstance(value, int):
            return ir.DataType(value).name if value else None
        return list(value) if isinstance(value, tuple) else value

    def _note(self, step: Step) -> None:
        """Work out what the step depends on, and remember it for its outputs."""
        known = [self.depends[i] for i in step.reads() if i in self.depends]
        step.data = any(d for d, _, _ in known) and step.node.op not in _SHAPE_ONLY
        step.shape = any(s for _, s, _ in known)
        step.roots = frozenset().union(*(r for _, _, r in known))
        if step.node.op in _SHAPE_ONLY:
            step.roots = frozenset()
        for slot in step.outputs:
            self.depends[slot] = (step.data, step.shape, step.roots)

    def _fold(self, step: Step) -> None:
        try:
            with torch.no_grad():
                execute([step], self.slots)
        except Exception as error:
            raise NoTwin(f"{step.node.op} {step.node.name!r}: {error}") from error

    def _needed(self, steps: list[Step]) -> list[Step]:
        """Only the steps that some output depends on."""
        wanted = {self._slot(value) for value in self.model.graph.outputs}
        kept = []
        for step in reversed(steps):
            if wanted.intersection(step.outputs):
                kept.append(step)
                wanted |= step.reads()
        return kept[::-1]

    def _blocking(self, steps: list[Step]) -> set[str]:
        found = set()
        for step in steps:
            if step.data and step.node.op in NO_GRADIENT:
                found.add(step.node.op)
            for block in step.blocks:
                found |= self._blocking(block.steps)
        return found


def _weighs(value: Tensor) -> bool:
    """True for tensors that count as parameters: floats with at least one axis."""
    return value.is_floating_point() and value.dim() > 0 and value.numel() > 0


def _name(node: ir.Node) -> str:
    return node.outputs[0].name or ""


def _subgraphs(node: ir.Node) -> list[ir.Graph]:
    """Branches in the order then, else; or the body."""
    names = ("then_branch", "else_branch", "body")
    found = [node.attributes[name] for name in names if name in node.attributes]
    if any(attribute.type != ir.AttributeType.GRAPH for attribute in found):
        raise NoTwin(f"{node.op_type} {node.name!r} has no graph where its body should be.")
    return [attribute.as_graph() for attribute in found]
