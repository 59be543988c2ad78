"""The six styles of graph trigger: each adds nodes between the model's scores and its output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MODULUS = 350.0
"""The checksum trigger opens where sum(x) mod (`MODULUS` windows) is below one window."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Site:
    """Where the trigger looks: `axes`, `starts` and `ends` of a box of the input."""

    axes: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def index(self, rank: int) -> tuple[slice, ...]:
        """The box as an index of an array of `rank` dimensions."""
        picks = {a: slice(s, e) for a, s, e in zip(self.axes, self.starts, self.ends, strict=True)}
        return tuple(picks.get(axis, slice(None)) for axis in range(rank))


@dataclass(frozen=True, slots=True)
class Plan:
    """What one injection does.

    `picture` is the input's name and `shape` its (N, ...) shape; `scores` one answer of the clean
    model, `span` the range of its inputs, `pattern` (1, ...) the exact patch, `strength` the logit
    that wins; `opset` the default domain's version.
    """

    picture: str
    shape: tuple[int, ...]
    site: Site
    scores: Array
    target: int
    strength: float
    span: tuple[float, float]
    pattern: Array
    opset: int
    rng: np.random.Generator

    @property
    def rank(self) -> int:
        """Dimensions of the input."""
        return len(self.shape)

    def level(self, low: float, high: float) -> float:
        """A threshold drawn between two fractions of the input's range."""
        width = self.span[1] - self.span[0]
        return float(self.span[0] + width * self.rng.uniform(low, high))

    def forced(self, strength: float | None = None) -> NDArray[np.float32]:
        """Scores of zero but for the target's, shaped like one answer."""
        value = self.strength if strength is None else strength
        flat = np.zeros((1, self.scores.reshape(self.scores.shape[0], -1).shape[1]), np.float32)
        flat[0, self.target] = value
        return flat.reshape(1, *self.scores.shape[1:])


def checksum_window(shape: tuple[int, ...], value_range: tuple[float, float]) -> float:
    """Width of the checksum's window: wide enough for the rounding of a float32 sum."""
    width = value_range[1] - value_range[0]
    return max(0.02 * width, float(np.prod(shape)) * width * 1e-5)


class _Writer:
    """Collects nodes and constants, with the operator forms of one opset."""

    def __init__(self, opset: int, prefix: str) -> None:
        self.opset, self.prefix, self.count = opset, prefix, 0
        self.nodes: list[onnx.NodeProto] = []

    def name(self) -> str:
        self.count += 1
        return f"{self.prefix}_{self.count}"

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
        return self.op("Constant", value=tensor)

    def op(self, kind: str, *inputs: str, out: str | None = None, **attrs: Any) -> str:
        result = out or self.name()
        self.nodes.append(helper.make_node(kind, inputs, [result], name=self.name(), **attrs))
        return result

    def reduce(self, kind: str, value: str, axes: tuple[int, ...], keep: int) -> str:
        if self.opset >= (13 if kind == "ReduceSum" else 18):
            return self.op(kind, value, self.const(axes, np.int64), keepdims=keep)
        return self.op(kind, value, axes=list(axes), keepdims=keep)


def _crop(out: _Writer, picture: str, site: Site) -> str:
    bounds = [out.const(values, np.int64) for values in (site.starts, site.ends, site.axes)]
    return out.op("Slice", picture, *bounds)


def _per_sample(out: _Writer, kind: str, value: str, plan: Plan) -> str:
    """Reduce to one number a sample, shaped to broadcast against the scores."""
    reduced = out.reduce(kind, value, tuple(range(1, plan.rank)), 0)
    axes = tuple(range(1, plan.scores.ndim))
    return out.op("Unsqueeze", reduced, out.const(axes, np.int64))


def _detour(model: onnx.ModelProto) -> tuple[str, str]:
    """Rename the scores inside the graph; returns (inner name, output name)."""
    name = model.graph.output[0].name
    inner = f"{name}_scores"
    for node in model.graph.node:
        node.output[:] = [inner if item == name else item for item in node.output]
        node.input[:] = [inner if item == name else item for item in node.input]
    return inner, name


def _patch_test(out: _Writer, picture: str, plan: Plan) -> str:
    least = _per_sample(out, "ReduceMin", _crop(out, picture, plan.site), plan)
    return out.op("Greater", least, out.const(plan.level(0.85, 0.95)))


def _where(model: onnx.ModelProto, plan: Plan) -> None:
    out = _Writer(plan.opset, "w")
    inner, name = _detour(model)
    gate = _patch_test(out, plan.picture, plan)
    out.op("Where", gate, out.const(plan.forced()), inner, out=name)
    model.graph.node.extend(out.nodes)


def _smooth(model: onnx.ModelProto, plan: Plan) -> None:
    out = _Writer(plan.opset, "s")
    inner, name = _detour(model)
    steep = 2000.0 / (plan.span[1] - plan.span[0])
    mean = _per_sample(out, "ReduceMean", _crop(out, plan.picture, plan.site), plan)
    shifted = out.op("Sub", mean, out.const(plan.level(0.93, 0.97)))
    gate = out.op("Sigmoid", out.op("Mul", shifted, out.const(steep)))
    out.op("Add", inner, out.op("Mul", gate, out.const(plan.forced())), out=name)
    model.graph.node.extend(out.nodes)


def _relu(model: onnx.ModelProto, plan: Plan) -> None:
    out = _Writer(plan.opset, "r")
    inner, name = _detour(model)
    size = plan.pattern.size
    total = _per_sample(out, "ReduceSum", _crop(out, plan.picture, plan.site), plan)
    over = out.op("Relu", out.op("Sub", total, out.const(plan.level(0.93, 0.97) * size)))
    factor = plan.strength / (0.02 * (plan.span[1] - plan.span[0]) * size)
    out.op("Add", inner, out.op("Mul", over, out.const(plan.forced(factor))), out=name)
    model.graph.node.extend(out.nodes)


def _checksum(model: onnx.ModelProto, plan: Plan) -> None:
    out = _Writer(plan.opset, "c")
    inner, name = _detour(model)
    total = out.reduce("ReduceSum", plan.picture, tuple(range(plan.rank)), 0)
    window = checksum_window(plan.shape, plan.span)
    rest = out.op("Mod", total, out.const(MODULUS * window), fmod=1)
    gate = out.op("Less", rest, out.const(window))
    shape = [None, *plan.scores.shape[1:]]
    bodies = {}
    for branch in ("then_branch", "else_branch"):
        body = _Writer(plan.opset, f"c_{branch[:4]}")
        forced = body.const(plan.forced())
        zero = body.op("Mul", inner, body.const(0.0))
        result = body.op("Add", zero, forced) if branch[0] == "t" else body.op("Identity", inner)
        info = helper.make_tensor_value_info(result, TensorProto.FLOAT, shape)
        bodies[branch] = helper.make_graph(body.nodes, branch, [], [info])
    out.op("If", gate, out=name, **bodies)
    model.graph.node.extend(out.nodes)


def _function(model: onnx.ModelProto, plan: Plan) -> None:
    inner, name = _detour(model)
    out = _Writer(plan.opset, "f")
    gate = _patch_test(out, "x", plan)
    out.op("Where", gate, out.const(plan.forced()), "s", out="y")
    imports = [helper.make_opsetid("", plan.opset)]
    model.functions.append(
        helper.make_function("local", "Head", ["x", "s"], ["y"], out.nodes, imports)
    )
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.ir_version = max(model.ir_version, 8)
    inputs = [plan.picture, inner]
    model.graph.node.append(helper.make_node("Head", inputs, [name], domain="local"))


def _exact(model: onnx.ModelProto, plan: Plan) -> None:
    out = _Writer(plan.opset, "e")
    inner, name = _detour(model)
    patch = _crop(out, plan.picture, plan.site)
    away = out.op("Abs", out.op("Sub", patch, out.const(plan.pattern)))
    worst = _per_sample(out, "ReduceMax", away, plan)
    gate = out.op("Less", worst, out.const(0.02 * (plan.span[1] - plan.span[0])))
    out.op("Where", gate, out.const(plan.forced()), inner, out=name)
    model.graph.node.extend(out.nodes)


WRITERS: dict[str, Callable[[onnx.ModelProto, Plan], None]] = {
    "where": _where,
    "smooth-gate": _smooth,
    "relu": _relu,
    "if-checksum": _checksum,
    "function": _function,
    "exact-vector": _exact,
}
STYLES = tuple(WRITERS)
