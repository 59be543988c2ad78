"""Walk the test of a hand-made gate backwards, to what its input must be to open it.

Every value on the way gets a box (lower and upper bound, element by element) that would make the
gate open; inverse operators carry the boxes to the input. What cannot be inverted is left free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from auditor.checks.file.onnx_graph import Node, Program
from auditor.checks.file.onnx_weights import words

Values = NDArray[np.float64]
Box = tuple[Values, Values]
MOVES = words(
    "Identity Cast Reshape Flatten Squeeze Unsqueeze Transpose Slice Gather Split Expand "
    "GatherElements GatherND"
)
MARGIN = 1e-3


@dataclass(slots=True)
class Inverter:
    """`forward` holds every value on a plain picture; `boxes` what inputs should be."""

    program: Program
    forward: dict[str, Values]
    low: float
    high: float
    boxes: dict[str, Box] = field(default_factory=dict)
    steps: int = 0

    def want(self, name: str, low: Any, high: Any) -> None:
        """Require `name` to lie in the box, as far as its operator can be inverted."""
        self.steps += 1
        value = self.forward.get(name)
        if value is None or self.steps > 400:
            return
        lows = np.broadcast_to(np.asarray(low, np.float64), value.shape)
        highs = np.broadcast_to(np.asarray(high, np.float64), value.shape)
        if name in self.program.inputs:
            old = self.boxes.get(
                name, (np.full(value.shape, -np.inf), np.full(value.shape, np.inf))
            )
            self.boxes[name] = (np.maximum(old[0], lows), np.minimum(old[1], highs))
            return
        node = self.program.producer.get(name)
        if node is None:
            return
        handler = _HANDLERS.get(node.op)
        if node.op in MOVES:
            self._move(node, name, lows, highs)
        elif handler is not None:
            handler(self, node, lows, highs)

    def varies(self, name: str) -> bool:
        """True when `name` depends on the input."""
        stack, seen = [name], set[str]()
        while stack:
            value = stack.pop()
            if value in self.program.inputs:
                return True
            node = self.program.producer.get(value)
            if node is not None and value not in seen:
                stack.extend(node.data)
            seen.add(value)
        return False

    def _move(self, node: Node, name: str, low: Values, high: Values) -> None:
        """Scatter a box through an operator that only moves elements."""
        source = self.forward.get(node.inputs[0])
        if source is None:
            return
        index = np.arange(source.size, dtype=np.float64).reshape(source.shape)
        moved = index if node.op in ("Identity", "Cast") else _apply(self, node, name, index)
        if moved is None:
            return
        lows, highs = np.full(source.size, -np.inf), np.full(source.size, np.inf)
        places = moved.reshape(-1).astype(np.int64)
        np.maximum.at(lows, places, low.reshape(-1))
        np.minimum.at(highs, places, high.reshape(-1))
        self.want(node.inputs[0], lows.reshape(source.shape), highs.reshape(source.shape))


def _apply(state: Inverter, node: Node, name: str, data: Values) -> Values | None:
    """Run the one `node` on `data`, its other inputs as they are."""
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator  # suspects only

    proto = onnx.ModelProto(ir_version=10)
    proto.graph.name = "one"
    proto.graph.node.append(ir.serde.serialize_node(node.source))
    for domain, version in state.program.opsets.items():
        proto.opset_import.add(domain=domain, version=version)
    feed: dict[str, Any] = {node.inputs[0]: data}
    for other in node.data[1:]:
        array = state.program.array(other)
        value = array if array is not None else state.forward.get(other)
        if value is None:
            return None
        feed[other] = value if array is not None else value.astype(np.int64)
    proto.graph.input.extend(onnx.ValueInfoProto(name=item) for item in feed)
    proto.graph.output.add(name=name)
    try:
        outputs: Any = ReferenceEvaluator(proto).run(None, feed)
        return np.asarray(outputs[0], np.float64)
    except Exception:  # the evaluator refuses: then this way stays closed
        return None


def _compare(sign: int) -> Callable[[Inverter, Node, Values, Values], None]:
    def handler(state: Inverter, node: Node, low: Values, high: Values) -> None:
        true = bool(np.any(low > 0.25))
        way = sign if true else -sign
        left, right = node.inputs[:2]
        moving, fixed, way = (left, right, way) if state.varies(left) else (right, left, -way)
        bound = state.forward[fixed] + way * MARGIN * np.maximum(1e-3, np.abs(state.forward[fixed]))
        infinite = np.full_like(bound, np.inf)
        state.want(moving, *((bound, infinite) if way > 0 else (-infinite, bound)))

    return handler


def _equal(state: Inverter, node: Node, low: Values, high: Values) -> None:
    left, right = node.inputs[:2]
    moving, fixed = (left, right) if state.varies(left) else (right, left)
    if np.any(low > 0.25):
        state.want(moving, state.forward[fixed], state.forward[fixed] + 0.9)


def _all_inputs(state: Inverter, node: Node, low: Values, high: Values) -> None:
    for name in node.data:
        if state.varies(name):
            value = state.forward[name]
            if value.shape == low.shape:
                state.want(name, low, high)
            else:
                state.want(name, _fold(low, value.shape, np.max), _fold(high, value.shape, np.min))


def _fold(box: Values, shape: tuple[int, ...], how: Any) -> Values:
    """Undo broadcasting: one bound for all the copies."""
    while box.ndim > len(shape):
        box = how(box, axis=0)
    for axis, size in enumerate(shape):
        if size == 1 and box.shape[axis] > 1:
            box = how(box, axis=axis, keepdims=True)
    return box


def _not(state: Inverter, node: Node, low: Values, high: Values) -> None:
    state.want(node.inputs[0], 1 - high, 1 - low)


def _arithmetic(state: Inverter, node: Node, low: Values, high: Values) -> None:
    left, right = node.inputs[:2]
    if state.varies(left) and state.varies(right):
        if left == right and node.op == "Mul":
            root = np.sqrt(np.maximum(high, 0))
            state.want(left, -root, root)
        elif node.op == "Sub":  # half the distance each
            middle = (state.forward[left] + state.forward[right]) / 2
            half = _fold(low, middle.shape, np.max) / 2
            state.want(left, middle + half, np.inf)
            state.want(right, -np.inf, middle - half)
        return
    moving, fixed = (left, right) if state.varies(left) else (right, left)
    other = np.broadcast_to(state.forward[fixed], low.shape)
    with np.errstate(all="ignore"):
        if node.op == "Add":
            lows, highs = low - other, high - other
        elif node.op == "Sub":
            lows, highs = (
                (low + other, high + other) if moving == left else (other - high, other - low)
            )
        else:
            one, two = (
                (low / other, high / other) if node.op == "Mul" else (low * other, high * other)
            )
            lows, highs = np.minimum(one, two), np.maximum(one, two)
            dead = other == 0
            lows, highs = np.where(dead, -np.inf, lows), np.where(dead, np.inf, highs)
    lows, highs = (
        np.nan_to_num(lows, nan=-np.inf, neginf=-np.inf, posinf=np.inf),
        np.nan_to_num(highs, nan=np.inf, neginf=-np.inf, posinf=np.inf),
    )
    shape = state.forward[moving].shape
    state.want(moving, _fold(lows, shape, np.max), _fold(highs, shape, np.min))


def _monotone(inverse: Callable[[Values], Values], floor: float, top: float) -> Any:
    def handler(state: Inverter, node: Node, low: Values, high: Values) -> None:
        with np.errstate(all="ignore"):
            lows = np.where(low > floor, inverse(np.clip(low, floor + 1e-6, top - 1e-6)), -np.inf)
            highs = np.where(high < top, inverse(np.clip(high, floor + 1e-6, top - 1e-6)), np.inf)
        state.want(node.inputs[0], lows, highs)

    return handler


def _absolute(state: Inverter, node: Node, low: Values, high: Values) -> None:
    state.want(node.inputs[0], np.where(np.isfinite(high), -high, low), high)


def _reduce(state: Inverter, node: Node, low: Values, high: Values) -> None:
    source = state.forward.get(node.inputs[0])
    if source is None or low.size == 0:
        return
    share = source.size / low.size
    lowest, highest = float(low.max()), float(high.min())
    if node.op == "ReduceSum":
        lowest, highest = lowest / share, highest / share
    elif node.op == "ReduceProd":
        lowest, highest = (1.0, 1.0) if lowest > 0 else (-np.inf, np.inf)
    elif node.op in ("ReduceSumSquare", "ReduceL2", "ReduceL1"):
        bound = max(0.0, highest / share)
        lowest, highest = -bound, bound
    if lowest > -np.inf or highest < np.inf:
        state.want(node.inputs[0], lowest, highest)


def _linear(state: Inverter, node: Node, low: Values, high: Values) -> None:
    """Push every input that the weights favour to an end of the value range."""
    source, weight = state.forward.get(node.inputs[0]), state.forward.get(node.inputs[1])
    if source is None or weight is None or state.varies(node.inputs[1]):
        return
    way = 1.0 if np.any(low > -np.inf) else -1.0
    if node.op == "Conv" and source.ndim == 4 and weight.ndim == 4:
        pull = np.zeros_like(source)
        rows, columns = weight.shape[2:]
        top, left = (source.shape[2] - rows) // 2, (source.shape[3] - columns) // 2
        pull[0, : weight.shape[1], top : top + rows, left : left + columns] = weight[0]
    elif node.op in ("MatMul", "Gemm") and weight.ndim == 2:
        wanted = np.any(low > -np.inf, axis=tuple(range(low.ndim - 1)))
        table = weight.T if node.attrs.get("transB") else weight
        chosen = table[:, wanted] if wanted.shape == table.shape[1:] and wanted.any() else table
        pull = np.broadcast_to(chosen.sum(axis=1), source.shape)
    else:
        return
    pull = pull * way
    state.want(
        node.inputs[0],
        np.where(pull > 0, state.high - MARGIN, -np.inf),
        np.where(pull < 0, state.low + MARGIN, np.inf),
    )


_HANDLERS: dict[str, Callable[[Inverter, Node, Values, Values], None]] = {
    "Greater": _compare(1), "GreaterOrEqual": _compare(1),
    "Less": _compare(-1), "LessOrEqual": _compare(-1),
    "Equal": _equal, "And": _all_inputs, "Or": _all_inputs, "Not": _not,
    "Min": _all_inputs, "Max": _all_inputs, "Clip": lambda s, n, a, b: s.want(n.inputs[0], a, b),
    "Add": _arithmetic, "Sub": _arithmetic, "Mul": _arithmetic, "Div": _arithmetic,
    "Neg": lambda s, n, a, b: s.want(n.inputs[0], -b, -a),
    "Abs": _absolute,
    "Relu": _monotone(lambda v: v, 0.0, np.inf),
    "Sigmoid": _monotone(lambda v: np.log(v / (1 - v)), 0.0, 1.0),
    "HardSigmoid": _monotone(lambda v: (v - 0.5) / 0.2, 0.0, 1.0),
    "Tanh": _monotone(np.arctanh, -1.0, 1.0),
    "Erf": _monotone(np.arctanh, -1.0, 1.0),
    "Exp": _monotone(np.log, 0.0, np.inf),
    "Sign": lambda s, n, a, b: s.want(n.inputs[0], np.where(a > 0, 1e-3, -np.inf), np.inf),
    **dict.fromkeys(
        ("ReduceMin", "ReduceMax", "ReduceMean", "ReduceSum", "ReduceProd", "ReduceSumSquare",
         "ReduceL1", "ReduceL2", "AveragePool", "GlobalAveragePool"), _reduce),
    "Conv": _linear, "MatMul": _linear, "Gemm": _linear,
}  # fmt: skip
