"""One case a row: an operator with its options, for the comparison with ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

R = np.random.default_rng(0)


def f(*shape: int) -> Any:
    return R.normal(size=shape).astype(np.float32)


def i(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


IMAGE = [None, 4, 9, 8]
ROW = [None, 6]

# operator, input shape, constants by input name (None: absent input), attributes, operator set
CASES: list[tuple[str, list[int | None], dict[str, Any], dict[str, Any], int]] = [
    *[
        (name, IMAGE, {}, {}, 20)
        for name in [
            "Neg",
            "Abs",
            "Exp",
            "Sin",
            "Cos",
            "Atan",
            "Tanh",
            "Sigmoid",
            "Relu",
            "Softplus",
            "Softsign",
            "Erf",
            "Floor",
            "Ceil",
            "Round",
            "Sign",
            "Sinh",
            "Cosh",
            "Asinh",
            "Mish",
            "HardSwish",
            "Gelu",
            "Identity",
            "Shape",
            "Size",
            "GlobalAveragePool",
            "GlobalMaxPool",
            "GlobalLpPool",
            "Elu",
            "Selu",
            "Celu",
            "LeakyRelu",
            "HardSigmoid",
            "ThresholdedRelu",
            "Shrink",
            "Softmax",
            "LogSoftmax",
            "Hardmax",
            "Flatten",
            "Transpose",
            "MeanVarianceNormalization",
            "LpNormalization",
            "Dropout",
        ]
    ],
    ("Swish", ROW, {}, {"alpha": 1.3}, 24),
    ("Gelu", ROW, {}, {"approximate": "tanh"}, 20),
    ("Elu", ROW, {}, {"alpha": 0.4}, 6),
    ("Selu", ROW, {}, {"alpha": 1.1, "gamma": 0.9}, 6),
    ("HardSigmoid", ROW, {}, {"alpha": 0.3, "beta": 0.4}, 13),
    ("Shrink", ROW, {}, {"lambd": 0.3, "bias": 0.2}, 13),
    ("Softmax", IMAGE, {}, {}, 11),
    ("Softmax", IMAGE, {}, {"axis": 2}, 9),
    ("LogSoftmax", IMAGE, {}, {"axis": 1}, 13),
    ("Hardmax", IMAGE, {}, {"axis": 1}, 11),
    ("Clip", ROW, {}, {"min": -0.5, "max": 0.2}, 6),
    ("Clip", ROW, {"lo": np.float32(-0.5), "hi": np.float32(0.3)}, {}, 13),
    ("Clip", ROW, {"lo": None, "hi": np.float32(0.3)}, {}, 13),
    ("Clip", ROW, {"lo": np.float32(0.0)}, {}, 11),
    ("PRelu", IMAGE, {"s": f(4, 1, 1)}, {}, 9),
    ("Add", IMAGE, {"b": f(4, 1, 1)}, {}, 13),
    ("Sub", IMAGE, {"b": f(8)}, {}, 7),
    ("Mul", IMAGE, {"b": f(1, 4, 9, 1)}, {}, 14),
    ("Div", IMAGE, {"b": f(1)}, {}, 14),
    ("Pow", ROW, {"b": np.float32(2.0)}, {}, 13),
    ("Pow", ROW, {"b": np.array([2, 3, 1, 0, 2, 2], np.float32)}, {}, 15),
    ("Mod", ROW, {"b": np.float32(0.7)}, {"fmod": 1}, 13),
    ("Sum", ROW, {"b": f(6), "c": f(1, 6)}, {}, 13),
    ("Max", ROW, {"b": f(6)}, {}, 13),
    ("Min", ROW, {"b": f(6)}, {}, 13),
    ("Mean", ROW, {"b": f(6)}, {}, 13),
    ("Conv", IMAGE, {"w": f(5, 4, 3, 3), "b": f(5)}, {}, 22),
    ("Conv", IMAGE, {"w": f(5, 4, 3, 2)}, {"strides": [2, 1], "pads": [1, 0, 2, 1]}, 11),
    ("Conv", IMAGE, {"w": f(6, 2, 3, 3)}, {"group": 2, "dilations": [2, 1]}, 11),
    ("Conv", IMAGE, {"w": f(4, 1, 3, 3)}, {"group": 4, "auto_pad": "SAME_UPPER"}, 11),
    ("Conv", IMAGE, {"w": f(3, 4, 4, 4)}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, 11),
    ("Conv", IMAGE, {"w": f(3, 4, 2, 2)}, {"auto_pad": "VALID"}, 6),
    ("Conv", [None, 3, 11], {"w": f(2, 3, 3)}, {"pads": [2, 0]}, 11),
    ("Conv", [None, 2, 5, 5, 5], {"w": f(2, 2, 3, 3, 3)}, {"pads": [1] * 6}, 11),
    ("ConvTranspose", IMAGE, {"w": f(4, 3, 3, 3), "b": f(3)}, {"strides": [2, 2]}, 11),
    (
        "ConvTranspose",
        IMAGE,
        {"w": f(4, 2, 3, 3), "b": f(4)},
        {"strides": [2, 2], "pads": [1, 0, 0, 1], "output_padding": [1, 1], "group": 2},
        11,
    ),
    (
        "ConvTranspose",
        IMAGE,
        {"w": f(4, 3, 3, 3)},
        {"output_shape": [19, 17], "strides": [2, 2]},
        11,
    ),
    (
        "ConvTranspose",
        IMAGE,
        {"w": f(4, 3, 3, 3)},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        11,
    ),
    ("MaxPool", IMAGE, {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}, 12),
    ("MaxPool", IMAGE, {}, {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}, 12),
    ("MaxPool", IMAGE, {}, {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1], "strides": [2, 2]}, 8),
    ("MaxPool", IMAGE, {}, {"kernel_shape": [2, 2], "dilations": [2, 2]}, 12),
    (
        "MaxPool",
        IMAGE,
        {},
        {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
        12,
    ),
    ("AveragePool", IMAGE, {}, {"kernel_shape": [3, 3], "pads": [1] * 4}, 11),
    (
        "AveragePool",
        IMAGE,
        {},
        {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1},
        11,
    ),
    ("AveragePool", IMAGE, {}, {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}, 19),
    (
        "AveragePool",
        IMAGE,
        {},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1], "count_include_pad": 1},
        19,
    ),
    ("AveragePool", IMAGE, {}, {"kernel_shape": [2, 2], "dilations": [2, 2]}, 19),
    ("AveragePool", IMAGE, {}, {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}, 7),
    ("LpPool", IMAGE, {}, {"kernel_shape": [2, 2], "p": 2}, 18),
    (
        "BatchNormalization",
        IMAGE,
        {"s": f(4), "b": f(4), "m": f(4), "v": np.abs(f(4)) + 0.1},
        {"epsilon": 1e-3},
        15,
    ),
    (
        "BatchNormalization",
        IMAGE,
        {"s": f(4), "b": f(4), "m": f(4), "v": np.abs(f(4)) + 0.1},
        {},
        7,
    ),
    ("InstanceNormalization", IMAGE, {"s": f(4), "b": f(4)}, {}, 6),
    ("LayerNormalization", IMAGE, {"s": f(8), "b": f(8)}, {}, 17),
    ("LayerNormalization", IMAGE, {"s": f(9, 8)}, {"axis": 2, "epsilon": 1e-3}, 17),
    ("LayerNormalization", IMAGE, {"s": f(1, 8), "b": f(8)}, {"axis": 2}, 17),
    ("RMSNormalization", IMAGE, {"s": f(8)}, {}, 23),
    ("GroupNormalization", IMAGE, {"s": f(4), "b": f(4)}, {"num_groups": 2}, 21),
    ("GroupNormalization", IMAGE, {"s": f(2), "b": f(2)}, {"num_groups": 2}, 18),
    ("LRN", IMAGE, {}, {"size": 3, "alpha": 0.1, "beta": 0.6, "bias": 1.2}, 13),
    ("LpNormalization", ROW, {}, {"p": 1, "axis": 1}, 1),
    ("Gemm", ROW, {"b": f(6, 5), "c": f(5)}, {}, 13),
    ("Gemm", ROW, {"b": f(5, 6), "c": f(5)}, {"transB": 1, "alpha": 0.5, "beta": 2.0}, 13),
    ("Gemm", ROW, {"b": f(5, 6), "c": f(1, 5)}, {"transB": 1}, 11),
    ("Gemm", ROW, {"b": f(6, 5)}, {}, 11),
    ("MatMul", IMAGE, {"b": f(8, 3)}, {}, 13),
    ("MatMul", IMAGE, {"b": f(1, 4, 8, 3)}, {}, 13),
    ("Einsum", IMAGE, {"b": f(4, 5)}, {"equation": "nchw,cd->ndhw"}, 12),
    *[
        (name, IMAGE, {}, {"axes": [1, 3], "keepdims": 0}, 11)
        for name in [
            "ReduceSum",
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceLogSumExp",
        ]
    ],
    ("ReduceMean", IMAGE, {"axes": i(2, -1)}, {}, 18),
    ("ReduceSum", IMAGE, {"axes": i(1)}, {"keepdims": 0}, 13),
    ("ReduceMean", IMAGE, {}, {"noop_with_empty_axes": 1}, 18),
    ("ArgMax", IMAGE, {}, {"axis": 1, "keepdims": 0}, 13),
    ("ArgMin", IMAGE, {}, {"axis": -1, "select_last_index": 1}, 13),
    ("CumSum", ROW, {"axis": np.int64(1)}, {"exclusive": 1, "reverse": 1}, 14),
    ("Reshape", IMAGE, {"s": i(0, -1)}, {}, 14),
    ("Reshape", IMAGE, {"s": i(-1, 2, 2, 72)}, {"allowzero": 1}, 14),
    ("Flatten", IMAGE, {}, {"axis": 2}, 13),
    ("Transpose", IMAGE, {}, {"perm": [0, 2, 3, 1]}, 13),
    ("Squeeze", [None, 1, 4, 1], {"a": i(1, 3)}, {}, 13),
    ("Squeeze", [None, 1, 4, 1], {}, {"axes": [1, -1]}, 11),
    ("Unsqueeze", ROW, {"a": i(1, -1)}, {}, 13),
    ("Unsqueeze", ROW, {}, {"axes": [2]}, 11),
    ("Concat", [3, 6], {"b": f(3, 2)}, {"axis": -1}, 13),
    ("Slice", IMAGE, {"s": i(1, -3), "e": i(3, 2**62), "a": i(1, 2)}, {}, 13),
    ("Slice", IMAGE, {"s": i(-1), "e": i(-100), "a": i(3), "t": i(-2)}, {}, 13),
    ("Slice", IMAGE, {}, {"starts": [1, 0], "ends": [-1, 2], "axes": [2, 3]}, 9),
    ("Pad", IMAGE, {"p": i(0, 0, 1, 2, 0, 0, 0, -1), "v": np.float32(0.3)}, {}, 13),
    ("Pad", IMAGE, {"p": i(1, 2, 1, 0), "v": None, "a": i(2, 3)}, {"mode": "reflect"}, 18),
    ("Pad", IMAGE, {"p": i(0, 0, 1, 2, 0, 0, 0, 3)}, {"mode": "edge"}, 13),
    ("Pad", IMAGE, {"p": i(0, 0, 1, 2, 0, 0, 0, 3)}, {"mode": "wrap"}, 19),
    ("Pad", IMAGE, {}, {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": 1.5}, 9),
    ("Expand", [None, 1, 4], {"s": i(1, 3, 1)}, {}, 13),
    ("Tile", ROW, {"r": i(1, 3)}, {}, 13),
    ("Trilu", IMAGE, {"k": np.int64(1)}, {"upper": 0}, 14),
    ("DepthToSpace", IMAGE, {}, {"blocksize": 2, "mode": "DCR"}, 13),
    ("DepthToSpace", IMAGE, {}, {"blocksize": 2, "mode": "CRD"}, 13),
    ("SpaceToDepth", [None, 3, 4, 6], {}, {"blocksize": 2}, 13),
    ("Gather", IMAGE, {"i": i(2, -1, 0)}, {"axis": 1}, 13),
    ("Gather", IMAGE, {"i": np.int64(-2)}, {"axis": 2}, 13),
    ("Gather", ROW, {"i": np.array([[0, 1], [5, -1]])}, {"axis": 1}, 13),
    ("GatherElements", [2, 6], {"i": np.array([[0, -1], [5, 2]])}, {"axis": 1}, 13),
    ("GatherND", [2, 6], {"i": np.array([[0, 1], [1, -1]])}, {}, 13),
    ("GatherND", [2, 6], {"i": np.array([[1], [-1]])}, {"batch_dims": 1}, 13),
    ("ScatterElements", [2, 6], {"i": np.array([[1, -1]]), "u": f(1, 2)}, {"axis": 1}, 18),
    (
        "ScatterElements",
        [2, 6],
        {"i": np.array([[1, 1]]), "u": f(1, 2)},
        {"axis": 1, "reduction": "add"},
        18,
    ),
    ("ScatterND", [2, 6], {"i": np.array([[0, 1], [1, -1]]), "u": f(2)}, {}, 18),
    ("Compress", ROW, {"c": np.array([True, False, True])}, {"axis": 1}, 11),
    ("Cast", ROW, {}, {"to": TensorProto.DOUBLE}, 13),
    ("Cast", ROW, {}, {"to": TensorProto.INT64}, 13),
    ("Cast", ROW, {}, {"to": TensorProto.BOOL}, 13),
    ("Upsample", IMAGE, {"s": np.array([1, 1, 2, 2], np.float32)}, {"mode": "nearest"}, 9),
    ("Upsample", IMAGE, {"s": np.array([1, 1, 2, 3], np.float32)}, {"mode": "linear"}, 9),
    ("Upsample", IMAGE, {}, {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 2.0]}, 7),
    ("com.microsoft::Gelu", ROW, {}, {}, 20),
    ("com.microsoft::QuickGelu", ROW, {}, {}, 20),
    ("com.microsoft::FastGelu", ROW, {"b": f(6)}, {}, 20),
    ("com.microsoft::BiasGelu", ROW, {"b": f(6)}, {}, 20),
    (
        "com.microsoft::FusedConv",
        IMAGE,
        {"w": f(3, 4, 3, 3), "b": f(3)},
        {"activation": "Relu"},
        20,
    ),
    ("com.microsoft::FusedGemm", ROW, {"b": f(6, 3), "c": f(3)}, {"activation": "Relu"}, 20),
    ("com.microsoft::FusedMatMul", ROW, {"b": f(3, 6)}, {"transB": 1, "alpha": 0.5}, 20),
    *[
        (["Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"][k], ROW, {"b": f(6)}, {}, 16)
        for k in range(5)
    ],
    ("IsNaN", ROW, {}, {}, 13),
    ("IsInf", ROW, {}, {}, 13),
]
for _mode in ("nearest", "linear", "cubic"):
    for _rule in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        _extra: dict[str, Any] = {"mode": _mode, "coordinate_transformation_mode": _rule}
        _scales = np.array([1, 1, 1.7, 0.6], np.float32)
        CASES.append(("Resize", IMAGE, {"r": None, "s": _scales}, _extra, 13))
        CASES.append(("Resize", IMAGE, {"r": None, "s": None, "z": i(2, 4, 5, 13)}, _extra, 18))
_HALVES = {"r": None, "s": np.array([1, 1, 1.5, 0.5], np.float32)}
CASES += [
    ("Resize", IMAGE, _HALVES, {"nearest_mode": rounding}, 13)
    for rounding in ("floor", "ceil", "round_prefer_ceil")
]
CASES.append(
    (
        "Resize",
        IMAGE,
        {"r": None, "s": np.array([1, 1, 0.5, 0.4], np.float32)},
        {"mode": "linear", "antialias": 1},
        18,
    )
)
CASES.append(
    (
        "Resize",
        [2, 3, 8, 8],
        {"r": None, "s": np.array([1, 1, 0.5, 2], np.float32)},
        {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5},
        13,
    )
)
