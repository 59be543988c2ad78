"""The record of one run of aten operators: what was called on what, in order.

Both torch formats write it: TorchScript through its interpreter, ``.pt2`` through its fx graph.
Values are identified by the tensor objects themselves, which the record keeps alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

CONV = {"conv1d", "conv2d", "conv3d", "convolution", "_convolution"}
CONV_TRANSPOSE = {"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
DENSE = {"linear", "addmm", "mm", "matmul"}
NORM = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "native_layer_norm"}
NORM |= {"_native_batch_norm_legit_no_training", "native_group_norm"}
ACTIVATION = {
    "relu", "relu6", "gelu", "silu", "hardswish", "hardtanh", "hardsigmoid", "sigmoid", "tanh",
    "leaky_relu", "elu", "selu", "celu", "softplus", "mish", "prelu", "clamp", "clamp_min",
    "softmax", "_softmax", "log_softmax", "_log_softmax",
}  # fmt: skip
POOL = {
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "avg_pool1d",
    "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "_adaptive_avg_pool2d", "adaptive_max_pool2d", "mean", "amax",
}  # fmt: skip
OTHER = {
    "add",
    "cat",
    "flatten",
    "view",
    "reshape",
    "scaled_dot_product_attention",
    "select",
    "mul",
}
PASS = {"dropout", "feature_dropout", "contiguous", "to", "detach", "clone", "alias", "_to_copy"}
RESHAPE = {"flatten", "view", "reshape", "squeeze", "unsqueeze", "_unsafe_view"} | PASS
_ROUNDING = {"round", "floor", "ceil", "trunc", "sign", "frac", "bernoulli", "fake_quantize"}


@dataclass(slots=True)
class Record:
    """One operator call of the recorded run: `name` identifies it, `op` is the bare operator name.

    `tensors` are its tensor arguments in order, `arguments` all of them, `result` the (first)
    tensor it returned, `made_by` the records that made each of `tensors` (None: input, parameter).
    """

    name: str
    op: str
    path: str
    arguments: tuple[Any, ...]
    tensors: tuple[Tensor, ...]
    made_by: tuple[Record | None, ...]
    result: Tensor
    axis: int = 1

    def argument(self, index: int) -> Any:
        """Argument `index`, None where it was not given."""
        return self.arguments[index] if len(self.arguments) > index else None

    @property
    def origin(self) -> tuple[Tensor, Record] | None:
        """The first tensor argument that another operator made, and that operator."""
        pairs = zip(self.tensors, self.made_by, strict=True)
        return next(((t, maker) for t, maker in pairs if maker is not None), None)


class Recorder:
    """Collects records; call `add` for every operator that returned a tensor."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._maker: dict[int, Record] = {}
        self._alive: list[Tensor] = []  # ids identify tensors only while they live
        self.blocked: dict[str, None] = {}

    def add(self, name: str, kind: str, path: str, arguments: tuple[Any, ...], result: Any) -> None:
        """Record a call; `kind` is ``aten::relu_`` or ``aten.relu.default``."""
        op = kind.replace("::", ".").split(".")[1].rstrip("_")
        tensors = tuple(_tensors(arguments))
        outputs = list(_tensors((result,)))
        if not outputs:
            return
        first = outputs[0]
        # The maker is looked up before an in-place operator becomes the maker of its argument.
        made_by = tuple(self._maker.get(id(t)) for t in tensors)
        record = Record(name, op, path, arguments, tensors, made_by, first)
        record.axis = _axis(record)
        self.records.append(record)
        self._alive.extend(outputs)
        for output in outputs:
            self._maker[id(output)] = record
        self._note_gradient(op, tensors, outputs)

    def maker(self, tensor: Tensor) -> Record | None:
        """The record that made `tensor`."""
        return self._maker.get(id(tensor))

    def _note_gradient(self, op: str, tensors: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        flows = any(t.requires_grad for t in tensors)
        made = op.endswith("_like") or op.startswith("new_")  # a fresh tensor, only shaped alike
        if flows and not made and (op in _ROUNDING or not any(o.requires_grad for o in outputs)):
            self.blocked[op] = None


def has_batch_of_one(value: Tensor) -> bool:
    """True when a value of an unbatched run carries a batch axis of one the model put there."""
    return value.dim() in (2, 4) and value.shape[0] == 1


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(_tensors(value))
    return found


def _axis(record: Record) -> int:
    """Channel axis of the result, carried along from the value it was computed from."""
    op, result = record.op, record.result
    if op in DENSE or op in ("layer_norm", "native_layer_norm") or result.dim() == 0:
        return max(0, result.dim() - 1)
    if op in CONV or op in CONV_TRANSPOSE:
        return result.dim() - (record.tensors[1].dim() - 1)
    if record.origin is None:
        return min(1, result.dim() - 1)
    before, source = record.origin
    if op in ("squeeze", "unsqueeze") and record.argument(1) == 0:
        return max(0, source.axis + result.dim() - before.dim())
    axis, last = source.axis, result.dim() - 1
    if op == "permute" and len(record.arguments) > 1:
        dims = [int(d) % before.dim() for d in record.arguments[1]]
        return dims.index(axis) if axis in dims else last
    if op == "transpose" and len(record.arguments) > 2:
        a, b = (int(d) % before.dim() for d in record.arguments[1:3])
        return {a: b, b: a}.get(axis, axis)
    if result.dim() == before.dim():
        return axis
    if op in ("flatten", "view", "reshape", "_unsafe_view") and axis == 1 and last == 2:
        return 1 if result.shape[1] == before.shape[1] else last
    # Axes were removed or added: channels stay last if they were, else they are axis 1.
    return last if axis == before.dim() - 1 else min(1, last)
