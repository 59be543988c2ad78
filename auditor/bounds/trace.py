"""From a torch function of images to the bound network, whatever format it came from.

The function is run once under torch's operator tracer, so ONNX twins, TorchScript and plain modules
all arrive as the same ATen calls. Control flow that depends on values makes the tracer fail, which
is what a sound bound needs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from auditor.bounds.convert import CONVERTERS, Slot
from auditor.bounds.graph import Affine, Network, Nonlinear, Unsupported
from auditor.bounds.nonlinear import Relu

_TUPLES = {"aten.native_batch_norm.default", "aten.max_pool2d_with_indices.default",
           "aten._native_batch_norm_legit_no_training.default"}  # fmt: skip
_CLAMPS = {"aten.clamp.default", "aten.hardtanh.default", "aten.clamp_min.default",
           "aten.clamp_max.default", "aten.hardtanh_.default", "aten.relu6.default",
           "aten.clamp_.default", "aten.clamp.Tensor"}  # fmt: skip
_MAXIMA = {"aten.maximum.default", "aten.minimum.default"}


def trace(function: Callable[[Tensor], Tensor], images: Tensor) -> Network:
    """The network that computes `function` on batches shaped like `images` (B >= 2, C, H, W).

    Raises `Unsupported` when an operator has no bound, samples of a batch influence each other, or
    the result does not reproduce `function`.
    """
    if len(images) < 2:
        raise ValueError("tracing needs a batch of at least 2 images")
    network = _convert(_calls(function, images), images)
    _verify(network, function, images)
    return network


def _calls(function: Callable[[Tensor], Tensor], images: Tensor) -> torch.fx.GraphModule:
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        with torch.no_grad():
            module = make_fx(lambda x: function(x))(images)
    except Exception as problem:
        words = " ".join(str(problem).split())[:160]
        raise Unsupported(f"the network cannot be traced: {words}") from problem
    module.graph.eliminate_dead_code()
    return module


class _Builder:
    """Walks the traced calls; `held` maps each to a `Slot`, a constant tensor or a Python value."""

    def __init__(self, module: torch.fx.GraphModule, shape: tuple[int, ...]) -> None:
        self.module, self.held = module, dict[Any, Any]()
        self.network = Network()
        self.network.nodes.append(_image_node(shape))

    def walk(self) -> Network:
        for call in self.module.graph.nodes:
            if call.op == "placeholder":
                self.held[call] = Slot(0)
            elif call.op == "get_attr":
                self.held[call] = _attribute(self.module, str(call.target))
            elif call.op == "call_function":
                self.held[call] = self._call(call)
            elif call.op == "output":
                return self._finish(self._arguments(call.args)[0])
            else:
                raise Unsupported(f"traced step {call.op}")
        raise Unsupported("a network without output")

    def _arguments(self, value: Any) -> Any:
        """Traced arguments with every call replaced by what it holds."""
        if isinstance(value, torch.fx.Node):
            return self.held[value]
        if isinstance(value, tuple | list):
            return [self._arguments(item) for item in value]
        if isinstance(value, dict):
            return {key: self._arguments(item) for key, item in value.items()}
        return value

    def _call(self, call: torch.fx.Node) -> Any:
        arguments, named = self._arguments(call.args), self._arguments(call.kwargs)
        name = str(call.target)
        if call.target is operator.getitem:
            return self._item(call, arguments)
        if not _holds_slot([arguments, named]):
            return call.target(*arguments, **named)  # type: ignore[operator]
        arguments, named = _double(arguments), _double(named)
        if name in _CLAMPS:
            return self._clamp(name, *arguments, **named)
        if name in _MAXIMA:
            return self._against(name, *arguments)
        convert = CONVERTERS.get(name)
        if convert is None:
            raise Unsupported(f"operator {name.removeprefix('aten.')}")
        try:
            op, slots = convert(*arguments, **named)
        except TypeError as problem:
            raise Unsupported(f"operator {name.removeprefix('aten.')}: {problem}") from problem
        return self._add(op, slots, name)

    def _item(self, call: torch.fx.Node, arguments: Any) -> Any:
        source = call.args[0]
        assert isinstance(source, torch.fx.Node)
        if not isinstance(arguments[0], Slot):
            return arguments[0][arguments[1]]
        if str(source.target) not in _TUPLES or arguments[1] != 0:
            raise Unsupported(f"second output of {source.target}")
        return arguments[0]

    def _add(self, op: Affine | Nonlinear, slots: tuple[Slot, ...], label: str) -> Slot:
        return Slot(self.network.add(op, [slot.position for slot in slots], label))

    def _shifted(self, slot: Slot, scale: float, shift: Any, label: str) -> Slot:
        op = Affine(lambda x: scale * x + shift, lambda x: abs(scale) * x + 0 * shift)
        return self._add(op, (slot,), label)

    def _clamp(self, name: str, value: Any, *ends: Any, **named: Any) -> Slot:
        """``clamp(x, a, b) = b - relu((b - a) - relu(x - a))``."""
        low, high = (*ends, None, None)[:2]
        low, high = named.get("min", low), named.get("max", high)
        if name == "aten.clamp_max.default":
            low, high = None, low if high is None else high
        if name.startswith("aten.hardtanh"):
            low = named.get("min_val", -1.0 if low is None else low)
            high = named.get("max_val", 1.0 if high is None else high)
        if name == "aten.relu6.default":
            low, high = 0.0, 6.0
        slot = value
        if not isinstance(slot, Slot) or _holds_slot([low, high]):
            raise Unsupported("clamp by a value that depends on the image")
        if low is not None:
            slot = self._above(slot, low)
        if high is not None:
            slot = self._below(slot, high)
        return slot

    def _against(self, name: str, a: Any, b: Any) -> Slot:
        if isinstance(a, Slot) and isinstance(b, Slot):
            raise Unsupported("maximum of two values that depend on the image")
        slot, limit = (a, b) if isinstance(a, Slot) else (b, a)
        return self._above(slot, limit) if "maximum" in name else self._below(slot, limit)

    def _above(self, slot: Slot, limit: Any) -> Slot:
        """``max(x, limit) = limit + relu(x - limit)``."""
        moved = self._shifted(slot, 1.0, -limit, "clamp")
        return self._shifted(self._add(Relu(), (moved,), "clamp"), 1.0, limit, "clamp")

    def _below(self, slot: Slot, limit: Any) -> Slot:
        """``min(x, limit) = limit - relu(limit - x)``."""
        moved = self._shifted(slot, -1.0, limit, "clamp")
        return self._shifted(self._add(Relu(), (moved,), "clamp"), -1.0, limit, "clamp")

    def _finish(self, result: Any) -> Network:
        result = result[0] if isinstance(result, list) else result
        if not isinstance(result, Slot):
            raise Unsupported("a network whose scores do not depend on the image")
        if result.position != len(self.network.nodes) - 1:
            self._shifted(result, 1.0, 0.0, "output")
        return self.network


def _convert(module: torch.fx.GraphModule, images: Tensor) -> Network:
    return _Builder(module, tuple(images.shape[1:])).walk()


def _image_node(shape: tuple[int, ...]) -> Any:
    from auditor.bounds.graph import Node

    return Node(None, (), "image", shape)


def _attribute(module: torch.fx.GraphModule, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value.detach() if isinstance(value, Tensor) else value


def _holds_slot(value: Any) -> bool:
    if isinstance(value, list):
        return any(_holds_slot(item) for item in value)
    if isinstance(value, dict):
        return any(_holds_slot(item) for item in value.values())
    return isinstance(value, Slot)


def _double(value: Any) -> Any:
    """Constants as float64, everywhere in nested arguments."""
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, list):
        return [_double(item) for item in value]
    if isinstance(value, dict):
        return {key: _double(item) for key, item in value.items()}
    return value


def _verify(network: Network, function: Callable[[Tensor], Tensor], images: Tensor) -> None:
    """The network reproduces `function`, sample by sample and independently."""
    other = images.clone()
    other[0] = 1 - other[0]
    with torch.no_grad():
        try:
            values, changed = network.values(images.double()), network.values(other.double())
            wanted = function(images).double()
            wanted_other = function(other).double()
        except RuntimeError as problem:
            words = " ".join(str(problem).split())[:160]
            raise Unsupported(f"the traced network cannot be run: {words}") from problem
    for node, value, moved in zip(network.nodes, values, changed, strict=True):
        node.shape = tuple(value.shape[1:])
        if value.ndim < 2 or len(value) != len(images):
            raise Unsupported(f"{node.label.removeprefix('aten.')} moves the batch axis")
        if not torch.equal(value[1:], moved[1:]):
            raise Unsupported(f"{node.label.removeprefix('aten.')} mixes samples of a batch")
    for found, right in ((values[-1], wanted), (changed[-1], wanted_other)):
        scale = max(1.0, float(right.abs().max()))
        if found.shape != right.shape or float((found - right).abs().max()) > 1e-3 * scale:
            raise Unsupported("the traced network does not reproduce the model")
