"""Which constants look learned and which look made by hand: what separates layers from gates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.checks.file.onnx_graph import Node, Program


def words(text: str) -> frozenset[str]:
    """The set of the words in `text`: how tables of operators are written here."""
    return frozenset(text.split())


SMALL = 32
"""Elements up to which a constant tells nothing: anybody can type it."""

BY_SIZE = "weights by size"
"""Key of a program's cache: set when its weights can only be told by how many they are."""

MANY = 512
"""Numbers from which on a constant counts as weights then."""

FEW_LEVELS = 4
SPARSE = 0.12
SAMPLE = 1 << 12

LINEAR = words(
    "Conv ConvTranspose ConvInteger DeformConv Gemm MatMul MatMulInteger QLinearConv QLinearMatMul "
    "Einsum com.microsoft::FusedConv com.microsoft::FusedMatMul com.microsoft::FusedGemm "
    "com.microsoft::MatMulNBits com.microsoft::QGemm com.microsoft::MatMulIntegerToFloat "
    "com.microsoft::DynamicQuantizeMatMul com.microsoft::NhwcFusedConv"
)
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
SAME_NUMBERS = words(
    "Identity Cast Transpose Reshape Squeeze Unsqueeze Flatten DequantizeLinear QuantizeLinear "
    "Dropout Slice Expand CastLike"
)


def looks_learned(array: NDArray[Any]) -> bool:
    """True for many different, mostly non-zero numbers, as training leaves them.

    Selectors, masks, fixed kernels and one-hot rows are sparse, tiny or take few values.
    """
    if array.size <= SMALL or array.dtype.kind not in "fiu":
        return False
    flat = array.reshape(-1)
    if flat.size > SAMPLE:
        flat = flat[:: flat.size // SAMPLE]
    with np.errstate(all="ignore"):
        flat = flat.astype(np.float64)
        flat = flat[np.isfinite(flat)]
        top = float(np.abs(flat).max()) if flat.size else 0.0
        if top == 0.0:
            return False
        levels = np.unique(np.round(flat / top, 4)).size
        dense = float(np.mean(np.abs(flat) > 0.01 * top))
    return levels > FEW_LEVELS and dense >= SPARSE


def stored_source(program: Program, name: str) -> str | None:
    """The stored tensor whose numbers constant `name` carries (through casts, reshapes, ...)."""
    for _ in range(32):
        if name in program.tensors:
            return name
        node = program.producer.get(name)
        if node is None or node.op not in SAME_NUMBERS or not node.inputs:
            return None
        name = node.inputs[0]
    return None


def constant_is_learned(program: Program, name: str) -> bool:
    """`looks_learned` for the constant value `name`; huge or unreadable ones count as learned."""
    source = stored_source(program, name)
    if source is None:
        return BY_SIZE in program.cache and _filled(program, name) >= MANY
    tensor = program.tensors[source]
    if BY_SIZE in program.cache and tensor.size >= MANY:
        return True
    if tensor.size <= SMALL:
        return False
    if tensor.nbytes > 1 << 26:
        return True
    array = program.array(source)
    return array is None or looks_learned(array)


def _filled(program: Program, name: str) -> int:
    """How many numbers a ConstantOfShape with a stored shape makes; 0 for anything else."""
    node = program.producer.get(name)
    shape = program.array(node.inputs[0]) if node and node.op == "ConstantOfShape" else None
    return 0 if shape is None else math.prod(int(side) for side in shape.reshape(-1))


def typed_by_hand(program: Program, node: Node) -> bool:
    """True for a recurrent layer or tree with so few numbers that training tells nothing."""
    if node.op in RECURRENT:
        return all(
            name in program.tensors and not constant_is_learned(program, name)
            for name in node.inputs[1:3]
        )
    lengths = [len(v) for v in node.attrs.values() if isinstance(v, list | tuple)]
    return max(lengths, default=SMALL + 1) <= SMALL


def is_zero(program: Program, name: str) -> bool:
    """True for a small constant of nothing but zeros (or too tiny to matter in float32)."""
    tensor = program.tensors.get(name)
    if tensor is None or tensor.size > 4096 or not tensor.dtype.is_floating_point():
        return False
    array = program.array(name)
    return array is not None and array.size > 0 and bool((abs(array) < 1e-12).all())


def weight_operands(node: Node) -> tuple[str, ...]:
    """Operands of `node` that make it a layer if they are learned constants."""
    if node.op in LINEAR or "::" in node.op:
        return node.data
    return node.data[:1] if node.op == "Gather" else ()  # an embedding


def output_units(program: Program, node: Node, weight: str) -> int:
    """Outputs per sample (or per position) of a linear `node`; 0 when unknown."""
    source = stored_source(program, weight)
    if source is None:
        return 0
    shape = tuple(int(dim) for dim in program.tensors[source].shape.numpy())
    if node.op in ("Conv", "ConvInteger", "QLinearConv", "com.microsoft::FusedConv"):
        return shape[0] if shape else 0
    if node.op == "ConvTranspose":
        return shape[1] if len(shape) > 1 else 0
    if node.op in ("Gemm", "com.microsoft::FusedGemm"):
        return shape[0] if node.attrs.get("transB") else shape[-1]
    if node.op == "Einsum":
        return 1 if len(shape) < 2 else shape[-1]
    left = bool(node.inputs) and node.inputs[0] == weight
    if len(shape) < 2:
        return 1
    return shape[-2] if left else shape[-1]
