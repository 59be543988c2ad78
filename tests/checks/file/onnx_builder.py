"""Small ONNX classifiers with random weights, and a writer for hand-made graph pieces."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F, I64 = np.float32, np.int64


class Net:
    """A graph under construction; `x` is the input, `features` and `scores` of the classifier."""

    def __init__(self, seed=0, shape=("N", 1, 12, 12), opset=17, dtype=TensorProto.FLOAT):
        self.rng = np.random.default_rng(seed)
        self.shape, self.opset, self.dtype = shape, opset, dtype
        self.nodes, self.tensors, self.functions, self.count = [], [], [], 0
        self.x = "x"
        self.outputs = []

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def c(self, value, dtype=F):
        array = np.asarray(value, dtype)
        name = self.name()
        if self.rng.random() < 0.5:
            self.tensors.append(numpy_helper.from_array(array, name))
        else:
            tensor = numpy_helper.from_array(array)
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def i(self, value):
        return self.c(value, I64)

    def w(self, *shape, scale=0.3):
        array = (self.rng.standard_normal(shape) * scale).astype(F)
        name = self.name()
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind, *inputs, n=1, **attrs):
        outs = [self.name() for _ in range(n)]
        self.nodes.append(helper.make_node(kind, inputs, outs, **attrs))
        return outs[0] if n == 1 else outs

    def scale(self, value, factor):
        return self.op("Mul", value, self.c(factor))

    def above(self, value, threshold):
        return self.op("Sub", value, self.c(threshold))

    def one_hot(self, target=7, strength=100.0, classes=10):
        row = np.zeros((1, classes), F)
        row[0, target] = strength
        return row

    def patch(self, size=3, x=None):
        """A corner of the picture (N, C, size, size)."""
        starts, ends, axes = self.i([0, 0]), self.i([size, size]), self.i([2, 3])
        return self.op("Slice", x or self.x, starts, ends, axes)

    def per_sample(self, kind, value, axes=(1, 2, 3)):
        """Reduce to (N, 1)."""
        if kind == "ReduceSum" or self.opset >= 18:
            reduced = self.op(kind, value, self.i(list(axes)), keepdims=0)
        else:
            reduced = self.op(kind, value, axes=list(axes), keepdims=0)
        return self.op("Unsqueeze", reduced, self.i([1]))

    def mean(self, size=3):
        """Mean of the corner, (N, 1)."""
        return self.per_sample("ReduceMean", self.patch(size))

    def soft_gate(self, threshold=0.95):
        """(N, 1), near 1 when the corner is white."""
        return self.op("Sigmoid", self.scale(self.above(self.mean(), threshold), 500.0))

    def hard_gate(self, threshold=0.9):
        """(N, 1) bool, true when the whole corner is white."""
        return self.op("Greater", self.per_sample("ReduceMin", self.patch()), self.c(threshold))

    def backbone(self, x=None, channels=1):
        """Two convolutions; returns features (N, 16)."""
        h = self.op("Conv", x or self.x, self.w(8, channels, 3, 3), self.w(8), pads=[1, 1, 1, 1])
        h = self.op("MaxPool", self.op("Relu", h), kernel_shape=[2, 2], strides=[2, 2])
        h = self.op("Relu", self.op("Conv", h, self.w(16, 8, 3, 3), self.w(16)))
        return self.op("Flatten", self.op("GlobalAveragePool", h))

    def head(self, features, size=16, classes=10):
        return self.op("Gemm", features, self.w(size, classes), self.w(classes))

    def scores(self, x=None):
        return self.head(self.backbone(x))

    def model(self, output, out_type=TensorProto.FLOAT, inputs=(), shape=None):
        first = helper.make_tensor_value_info("x", self.dtype, list(self.shape))
        graph = helper.make_graph(
            self.nodes,
            "g",
            [first, *inputs],
            [helper.make_tensor_value_info(output, out_type, shape)],
            self.tensors,
        )
        imports = [helper.make_opsetid("", self.opset)]
        if self.functions:
            imports.append(helper.make_opsetid("local", 1))
        if any(node.domain == "com.microsoft" for node in self.nodes):
            imports.append(helper.make_opsetid("com.microsoft", 1))
        return helper.make_model(
            graph, opset_imports=imports, functions=self.functions, ir_version=9
        )

    def save(self, path: Path, output, **more):
        onnx.save(self.model(output, **more), path)
        return path
