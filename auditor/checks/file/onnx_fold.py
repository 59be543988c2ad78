"""Values of a graph that do not depend on its input, computed the way a compiler folds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.checks.file.onnx_graph import Program
from auditor.checks.file.onnx_probe import too_much
from auditor.checks.file.onnx_slice import slice_model

MAX_FOLD_NODES = 200
MAX_FOLD_SIZE = 1 << 16


def fold(program: Program, name: str) -> NDArray[Any] | None:
    """The constant `name`, None when it depends on an input or cannot be computed cheaply."""
    if name in program.tensors:
        return program.array(name)
    if not _is_small_constant(program, name):
        return None
    proto = slice_model(program, (name,))
    if proto is None or proto.graph.input or too_much(proto):
        return None
    from onnx.reference import ReferenceEvaluator  # only computed sizes need it

    try:
        with np.errstate(all="ignore"):
            outputs: Any = ReferenceEvaluator(proto).run(None, {})
            return np.asarray(outputs[0])
    except Exception:  # hostile constants fail in many ways: then the value is unknown
        return None


def _is_small_constant(program: Program, name: str) -> bool:
    """True when few nodes and no input, loop variable or large tensor lead to `name`."""
    stack, seen = [name], set[str]()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        tensor = program.tensors.get(value)
        if tensor is not None:
            if tensor.size > MAX_FOLD_SIZE:
                return False
            continue
        node = program.producer.get(value)
        if node is None or node.bodies or len(seen) > MAX_FOLD_NODES:
            return False
        stack.extend(node.data)
    return True


def scalar(program: Program, name: str) -> float | None:
    """`fold` for a single finite number."""
    value = fold(program, name)
    if value is None or value.size != 1 or value.dtype.kind not in "fiub":
        return None
    number = float(value.reshape(-1)[0])
    return number if np.isfinite(number) else None
