"""Random small graphs from the registry against ONNX Runtime (Claessen and Hughes, 2000, in idea).

Each graph is drawn from a seed, so that a failure names the seed that repeats it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from auditor.twin.onnx.registry import load_operators
from tests.twin.onnx.graphs import gap, graph

GRAPHS = 500
OPSETS = (13, 14, 15, 17, 18, 20, 21, 23)
node = helper.make_node


class Builder:
    """Adds random operators to a pool of values with known shapes (batch first)."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.opset = int(self.random.choice(OPSETS))
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        side = int(self.random.integers(6, 11))
        self.shape = [3, int(self.random.integers(1, 5)), side, side + 1]
        self.values: list[tuple[str, list[int]]] = [("x", list(self.shape))]

    def const(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def f(self, *shape: int) -> str:
        return self.const((self.random.normal(size=shape) * 0.5).astype(np.float32))

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, dtype=np.int64))

    def add(self, op: str, inputs: list[str], shape: list[int], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        domain, _, kind = op.rpartition("::")
        self.nodes.append(node(kind, inputs, [name], domain=domain, **attributes))
        self.values.append((name, shape))
        return name

    def pick(self, rank: int | None = None) -> tuple[str, list[int]] | None:
        fitting = [v for v in self.values if rank is None or len(v[1]) == rank]
        if not fitting:
            return None
        recent = fitting[-4:]
        return recent[int(self.random.integers(len(recent)))]

    def step(self) -> None:
        """One random operator, or nothing where it does not fit."""
        moves = [
            self.unary, self.unary, self.tame, self.binary, self.conv, self.pool, self.norm,
            self.dense, self.matmul, self.move, self.reduce, self.join, self.cut, self.pad,
            self.pick_channels, self.choose, self.resize, self.softmax,
        ]  # fmt: skip
        moves[int(self.random.integers(len(moves)))]()

    def unary(self) -> None:
        found = self.pick()
        assert found
        names = "Relu Sigmoid Tanh Elu LeakyRelu Softsign HardSigmoid Abs Neg Erf Sin Cos"
        names += " Identity Selu Celu Softplus Atan ThresholdedRelu"
        names += " HardSwish" if self.opset >= 14 else ""
        names += " Mish" if self.opset >= 18 else ""
        names += " Gelu" if self.opset >= 20 else ""
        options = names.split()
        self.add(options[int(self.random.integers(len(options)))], [found[0]], found[1])

    def tame(self) -> None:
        """Functions with a restricted domain, behind a sigmoid."""
        found = self.pick()
        assert found
        inner = self.add("Sigmoid", [found[0]], found[1])
        options = ["Sqrt", "Exp", "Log", "Reciprocal", "Asin", "Acos"]
        name = options[int(self.random.integers(len(options)))]
        shifted = self.add("Add", [inner, self.const(np.float32(0.1))], found[1])
        bounded = self.add("Mul", [shifted, self.const(np.float32(0.8))], found[1])
        self.add(name, [bounded], found[1])

    def binary(self) -> None:
        found = self.pick()
        assert found
        name = ["Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean"][int(self.random.integers(7))]
        twins = [v for v in self.values if v[1] == found[1] and v is not found]
        if twins and self.random.random() < 0.6:
            other = twins[int(self.random.integers(len(twins)))][0]
        else:
            tail = int(self.random.integers(1, len(found[1])))
            other = self.f(*found[1][-tail:])
        pair = [found[0], other] if self.random.random() < 0.5 else [other, found[0]]
        self.add(name, pair, found[1])

    def conv(self) -> None:
        found = self.pick(4)
        if not found or min(found[1][2:]) < 3:
            return
        name, (n, c, h, w) = found
        group = c if self.random.random() < 0.3 else 1
        out = c * int(self.random.integers(1, 3)) if group > 1 else int(self.random.integers(1, 6))
        k, s = int(self.random.integers(1, 4)), int(self.random.integers(1, 3))
        pads = [int(p) for p in self.random.integers(0, 2, size=4)]
        weights = [self.f(out, c // group, k, k)]
        if self.random.random() < 0.5:
            weights.append(self.f(out))
        high, wide = (h + pads[0] + pads[2] - k) // s + 1, (w + pads[1] + pads[3] - k) // s + 1
        self.add(
            "Conv", [name, *weights], [n, out, high, wide], group=group, strides=[s, s], pads=pads
        )

    def pool(self) -> None:
        found = self.pick(4)
        if not found or min(found[1][2:]) < 3:
            return
        name, (n, c, h, w) = found
        if self.random.random() < 0.2:
            which = ["GlobalAveragePool", "GlobalMaxPool"][int(self.random.integers(2))]
            self.add(which, [name], [n, c, 1, 1])
            return
        which = ["MaxPool", "AveragePool"][int(self.random.integers(2))]
        k, s = int(self.random.integers(2, 4)), int(self.random.integers(1, 3))
        pads = [int(p) for p in self.random.integers(0, 2, size=4)]
        extra = (
            {"count_include_pad": 1}
            if which == "AveragePool" and self.random.random() < 0.5
            else {}
        )
        high, wide = (h + pads[0] + pads[2] - k) // s + 1, (w + pads[1] + pads[3] - k) // s + 1
        self.add(
            which,
            [name],
            [n, c, high, wide],
            kernel_shape=[k, k],
            strides=[s, s],
            pads=pads,
            **extra,
        )

    def norm(self) -> None:
        found = self.pick()
        assert found
        name, shape = found
        if len(shape) == 4 and self.random.random() < 0.6:
            c = shape[1]
            spread = self.const(np.abs(self.random.normal(size=c)).astype(np.float32) + 0.3)
            self.add("BatchNormalization", [name, self.f(c), self.f(c), self.f(c), spread], shape)
        elif self.opset >= 17 and shape[-1] > 1:
            last = shape[-1]
            self.add("LayerNormalization", [name, self.f(last), self.f(last)], shape, epsilon=0.1)
        elif len(shape) == 4:
            self.add("LRN", [name], shape, size=3, alpha=0.1)

    def dense(self) -> None:
        found = self.pick(2)
        if not found:
            four = self.pick(4)
            if four:
                self.add("Flatten", [four[0]], [four[1][0], int(np.prod(four[1][1:]))], axis=1)
            return
        name, (n, k) = found
        out, flip = int(self.random.integers(2, 9)), int(self.random.integers(2))
        weight = self.f(out, k) if flip else self.f(k, out)
        extra = {"alpha": 0.5} if self.random.random() < 0.3 else {}
        self.add("Gemm", [name, weight, self.f(out)], [n, out], transB=flip, **extra)

    def matmul(self) -> None:
        found = self.pick()
        assert found
        name, shape = found
        out = int(self.random.integers(2, 7))
        self.add("MatMul", [name, self.f(shape[-1], out)], [*shape[:-1], out])

    def move(self) -> None:
        found = self.pick()
        assert found
        name, shape = found
        how = int(self.random.integers(4))
        if how == 0 and len(shape) > 2:
            order = [0, *(int(i) + 1 for i in self.random.permutation(len(shape) - 1))]
            self.add("Transpose", [name], [shape[i] for i in order], perm=order)
        elif how == 1 and len(shape) == 4:
            target = [0, -1, shape[3]]
            shaped = [shape[0], shape[1] * shape[2], shape[3]]
            self.add("Reshape", [name, self.ints(*target)], shaped)
        elif how == 2 and len(shape) < 4:
            at = int(self.random.integers(1, len(shape) + 1))
            self.add("Unsqueeze", [name, self.ints(at)], [*shape[:at], 1, *shape[at:]])
        elif how == 3 and 1 in shape[1:]:
            at = shape.index(1, 1)
            self.add("Squeeze", [name, self.ints(at)], shape[:at] + shape[at + 1 :])

    def reduce(self) -> None:
        found = self.pick(4) or self.pick(3)
        if not found:
            return
        name, shape = found
        axis, keep = int(self.random.integers(1, len(shape))), int(self.random.integers(2))
        names = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL2 ReduceSumSquare ReduceL1"
        which = [*names.split(), "ReduceLogSumExp"][int(self.random.integers(8))]
        left = shape[:axis] + ([1] if keep else []) + shape[axis + 1 :]
        if which == "ReduceSum" or self.opset >= 18:
            self.add(which, [name, self.ints(axis)], left, keepdims=keep)
        else:
            self.add(which, [name], left, keepdims=keep, axes=[axis])

    def join(self) -> None:
        found = self.pick()
        assert found
        name, shape = found
        axis = int(self.random.integers(1, len(shape)))
        merged = [*shape[:axis], 2 * shape[axis], *shape[axis + 1 :]]
        other = self.add("Tanh", [name], shape)
        self.add("Concat", [name, other], merged, axis=axis)

    def cut(self) -> None:
        found = self.pick()
        assert found
        name, shape = found
        axis = int(self.random.integers(1, len(shape)))
        if shape[axis] < 3:
            return
        step = int(self.random.integers(1, 3))
        size = len(range(shape[axis])[1:-1:step])
        left = [*shape[:axis], size, *shape[axis + 1 :]]
        bounds = [self.ints(1), self.ints(-1), self.ints(axis), self.ints(step)]
        self.add("Slice", [name, *bounds], left)

    def pad(self) -> None:
        found = self.pick(4)
        if not found or min(found[1][2:]) < 3:
            return
        name, (n, c, h, w) = found
        amounts = [int(p) for p in self.random.integers(0, 3, size=4)]
        pads = self.ints(0, 0, *amounts[:2], 0, 0, *amounts[2:])
        mode = ["constant", "reflect", "edge"][int(self.random.integers(3))]
        shape = [n, c, h + amounts[0] + amounts[2], w + amounts[1] + amounts[3]]
        self.add("Pad", [name, pads], shape, mode=mode)

    def pick_channels(self) -> None:
        found = self.pick()
        assert found
        name, shape = found
        axis = int(self.random.integers(1, len(shape)))
        chosen = [int(i) for i in self.random.integers(-shape[axis], shape[axis], size=3)]
        left = [*shape[:axis], 3, *shape[axis + 1 :]]
        self.add("Gather", [name, self.ints(*chosen)], left, axis=axis)

    def choose(self) -> None:
        """A condition on the image itself, which both sides see exactly alike."""
        name, shape = self.values[0]
        which = ["Greater", "Less"][int(self.random.integers(2))]
        self.nodes.append(node(which, [name, self.const(np.float32(0.1))], [f"b{len(self.nodes)}"]))
        mask = self.nodes[-1].output[0]
        self.add("Where", [mask, name, self.const(np.float32(-0.3))], shape)

    def resize(self) -> None:
        found = self.pick(4)
        if not found:
            return
        name, (n, c, h, w) = found
        mode = ["nearest", "linear"][int(self.random.integers(2))]
        scales = self.const(np.array([1, 1, 2, 2], np.float32))
        self.add("Resize", [name, "", scales], [n, c, 2 * h, 2 * w], mode=mode)

    def softmax(self) -> None:
        found = self.pick()
        assert found
        which = ["Softmax", "LogSoftmax"][int(self.random.integers(2))]
        axis = int(self.random.integers(1, len(found[1])))
        self.add(which, [found[0]], found[1], axis=axis)

    def model(self) -> onnx.ModelProto:
        while len(self.nodes) < 12:
            self.step()
        batch = [self.shape[0], "N", None][int(self.random.integers(3))]
        last = self.values[-1][0]
        return graph(self.nodes, [batch, *self.shape[1:]], [last], self.constants, self.opset)


def test_random_graphs_agree_with_onnx_runtime() -> None:
    used: Counter[str] = Counter()
    for seed in range(GRAPHS):
        builder = Builder(seed)
        proto = builder.model()
        used.update(n.op_type for n in proto.graph.node)
        x = builder.random.normal(size=builder.shape).astype(np.float32)
        try:
            difference = gap(proto, x)
        except Exception as error:
            pytest.fail(f"seed {seed}, operator set {builder.opset}: {error}")
        assert difference < 1e-4, f"seed {seed}, operator set {builder.opset}: {difference}"
    assert set(used) <= set(load_operators())
    assert len(used) > 60, sorted(used)
