"""From a torch function of images to the bound network, whatever format it came from.

The function is run once under a recorder of ATen calls, so ONNX twins, TorchScript and plain
modules all arrive in the same form. Control flow that depends on values is refused, which is what a
sound bound needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from auditor.bounds.convert import Slot, load_converters
from auditor.bounds.graph import Affine, Network, Node, Nonlinear, Unsupported
from auditor.bounds.nonlinear import Relu
from auditor.bounds.recorder import Call, record

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
    image = images.clone()
    try:
        calls, result = record(function, image)
    except Exception as problem:
        words = " ".join(str(problem).split())[:160]
        raise Unsupported(f"a network that cannot be traced ({words})") from problem
    network = _Builder(image).build(calls, result)
    _verify(network, function, images)
    return network


class _Builder:
    """Walks the recorded calls; `held` maps a tensor's id to the node that computes it."""

    def __init__(self, image: Tensor) -> None:
        self.converters = load_converters()
        self.held: dict[int, Slot] = {id(image): Slot(0)}
        self.network = Network([Node(None, (), "image", tuple(image.shape[1:]))])

    def build(self, calls: list[Call], result: Tensor) -> Network:
        """The network of those `calls` that `result` needs."""
        for call in _needed(calls, result):
            slot = self._call(call)
            outputs = call.result if isinstance(call.result, tuple | list) else (call.result,)
            name = str(call.target)
            if len(outputs) > 1 and name not in _TUPLES:
                raise Unsupported(f"operator {name.removeprefix('aten.')} with several results")
            self.held[id(outputs[0])] = slot
        last = self.held.get(id(result))
        if last is None:
            raise Unsupported("a network whose scores do not depend on the image")
        if last.position != len(self.network.nodes) - 1:
            self._shifted(last, 1.0, 0.0, "output")
        return self.network

    def _arguments(self, value: Any) -> Any:
        """Recorded arguments with values as slots and constants as float64."""
        if isinstance(value, Tensor):
            if id(value) in self.held:
                return self.held[id(value)]
            return value.detach().double() if value.is_floating_point() else value
        if isinstance(value, tuple | list):
            return [self._arguments(item) for item in value]
        if isinstance(value, dict):
            return {key: self._arguments(item) for key, item in value.items()}
        return value

    def _call(self, call: Call) -> Slot:
        arguments, named = self._arguments(call.args), self._arguments(call.kwargs)
        name = str(call.target)
        if name in _CLAMPS:
            return self._clamp(name, *arguments, **named)
        if name in _MAXIMA:
            return self._against(name, *arguments)
        convert = self.converters.get(name)
        if convert is None:
            raise Unsupported(f"operator {name.removeprefix('aten.')}")
        try:
            op, slots = convert(*arguments, **named)
        except TypeError as problem:
            raise Unsupported(f"operator {name.removeprefix('aten.')}: {problem}") from problem
        return self._add(op, slots, name)

    def _add(self, op: Affine | Nonlinear, slots: tuple[Slot, ...], label: str) -> Slot:
        return Slot(self.network.add(op, [slot.position for slot in slots], label))

    def _shifted(self, slot: Slot, scale: float, shift: Any, label: str) -> Slot:
        op = Affine(
            lambda x: scale * x + shift,
            lambda x: abs(scale) * x + 0 * shift,
            lambda c, shape: (c * scale).sum_to_size(c.shape[:1] + shape),
        )
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


def _needed(calls: list[Call], result: Tensor) -> list[Call]:
    """The calls that `result` depends on, in order.

    A tensor written twice (in-place operators) is needed in both states, so all its writers stay.
    """
    wanted, kept = {id(result)}, []
    for call in reversed(calls):
        outputs = call.result if isinstance(call.result, tuple | list) else (call.result,)
        if any(id(item) in wanted for item in outputs):
            kept.append(call)
            _mark([call.args, call.kwargs], wanted)
    return kept[::-1]


def _mark(value: Any, wanted: set[int]) -> None:
    if isinstance(value, Tensor):
        wanted.add(id(value))
    elif isinstance(value, list | tuple):
        for item in value:
            _mark(item, wanted)
    elif isinstance(value, dict):
        _mark(list(value.values()), wanted)


def _holds_slot(value: Any) -> bool:
    if isinstance(value, list):
        return any(_holds_slot(item) for item in value)
    if isinstance(value, dict):
        return any(_holds_slot(item) for item in value.values())
    return isinstance(value, Slot)


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
