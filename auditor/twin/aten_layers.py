"""From one recorded run of aten operators to layers, penultimate features and the final tail.

Both torch formats feed this: TorchScript through its interpreter, ``.pt2`` through its fx graph.
The analysis reads what really ran (so ``if`` and ``for`` need no special care) and identifies
values by the tensor objects themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from auditor.twin.interface import Layer

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
_PASS = {"dropout", "feature_dropout", "contiguous", "to", "detach", "clone", "alias", "_to_copy"}
_RESHAPE = {"flatten", "view", "reshape", "squeeze", "unsqueeze", "_unsafe_view"} | _PASS
_TAILS = {
    "softmax": "softmax", "_softmax": "softmax", "log_softmax": "log-softmax",
    "_log_softmax": "log-softmax", "sigmoid": "sigmoid", "relu": "relu",
}  # fmt: skip
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


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one run told: see `auditor.twin.interface.Twin`. `logits` names the value before the
    tail (None: the output itself)."""

    layers: tuple[Layer, ...]
    features: str | None
    head: Layer | None
    tail: str
    logits: str | None
    main: int
    without_gradient: tuple[str, ...]


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
    source = record.made_by[0] if record.made_by else None
    if op in DENSE or op in ("layer_norm", "native_layer_norm") or result.dim() == 0:
        return max(0, result.dim() - 1)
    before = record.tensors[0] if record.tensors else None
    if op in CONV or op in CONV_TRANSPOSE:
        return result.dim() - (record.tensors[1].dim() - 1)
    if source is None or before is None:
        return min(1, result.dim() - 1)
    if op in ("squeeze", "unsqueeze") and _argument(record, 1) == 0:
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


def analyse(
    recorder: Recorder,
    outputs: Sequence[Tensor],
    names: Mapping[int, str],
    batched: bool = True,
) -> Analysis:
    """Read layers, features, head and tail from a run.

    `names` gives the artifact's parameter name for ``id(tensor)`` of each parameter. `batched`
    False: the run had no batch axis, which shapes and axes of the layers then gain in front.
    """
    main = _main_output(outputs)
    tail, before = _tail(recorder.maker(outputs[main]) if outputs else None)
    layers: dict[int, Layer] = {}
    for record in recorder.records:
        layer = _layer(record, names, layers, batched)
        if layer is not None:
            layers[id(record)] = layer
    head_record = _find_head(before, layers)
    head = layers.get(id(head_record)) if head_record is not None else None
    features = _features(head_record, layers) if head_record is not None else None
    if features is not None and id(features) not in layers:
        layers[id(features)] = _plain_layer(features, layers, batched)
    order = [layers[id(r)] for r in recorder.records if id(r) in layers]
    logits = before.name if before is not None and tail not in ("logits", "relu") else None
    return Analysis(
        tuple(order),
        features.name if features is not None else None,
        head,
        tail,
        logits,
        main,
        tuple(recorder.blocked),
    )


def _main_output(outputs: Sequence[Tensor]) -> int:
    for index, output in enumerate(outputs):
        if output.is_floating_point() and output.dim() >= 1 and output.shape[-1] > 1:
            return index
    return 0


def _tail(record: Record | None) -> tuple[str, Record | None]:
    """(tail word, record of the value before it or of the output itself)."""
    end = record
    while record is not None and (record.op in _RESHAPE or _takes_all(record)):
        record = record.made_by[0] if record.made_by else None
    if record is None:
        return "logits", end
    source = record.made_by[0] if record.made_by else None
    if record.op == "log" and source is not None and source.op in ("softmax", "_softmax"):
        return "log-softmax", source.made_by[0]
    if record.op in _TAILS:
        return _TAILS[record.op], source
    return "logits", end


def _takes_all(record: Record) -> bool:
    """True for a ``select`` that drops an axis of one (a model that adds its own batch axis)."""
    return record.op == "select" and record.tensors[0].numel() == record.result.numel()


def _resolve_parameter(
    tensor: Any, made_by: Record | None, names: Mapping[int, str]
) -> tuple[str, bool] | None:
    """(parameter name, transposed) when `tensor` is a parameter or a plain transpose of one."""
    if id(tensor) in names:
        return names[id(tensor)], False
    flipped = False
    while made_by is not None and made_by.op in {"t", "transpose", "permute", *_PASS}:
        flipped ^= made_by.op in {"t", "transpose", "permute"}
        source = made_by.tensors[0]
        if id(source) in names:
            return names[id(source)], flipped
        made_by = made_by.made_by[0]
    return None


def _maker_of(record: Record, tensor: Any) -> Record | None:
    for value, maker in zip(record.tensors, record.made_by, strict=True):
        if value is tensor:
            return maker
    return None


def _argument(record: Record, index: int) -> Any:
    return record.arguments[index] if len(record.arguments) > index else None


def _weights(record: Record, names: Mapping[int, str]) -> tuple[Any, Any, int]:
    """((weight name, transposed) or None, bias name or None, output axis of the stored weight)."""
    op = record.op
    where = (1, 2)
    if op == "addmm":
        where = (2, 0)
    elif op in ("layer_norm", "native_layer_norm", "group_norm", "native_group_norm"):
        where = (2, 3) if op in ("layer_norm", "native_layer_norm", "group_norm") else (1, 2)
    pair = []
    for index in where:
        value = _argument(record, index)
        pair.append(_resolve_parameter(value, _maker_of(record, value), names))
    weight, bias = pair
    transposed_conv = op in CONV_TRANSPOSE or (op in CONV and _is_transposed(record))
    axis = 1 if transposed_conv else 0
    if op in ("addmm", "mm", "matmul") and weight is not None:
        axis = 0 if weight[1] else 1
    return weight, bias[0] if bias else None, axis


def _is_transposed(record: Record) -> bool:
    return record.op in ("_convolution", "convolution") and bool(_argument(record, 6))


def _kind(record: Record, names: Mapping[int, str]) -> str | None:
    op = record.op
    if op in CONV or op in CONV_TRANSPOSE:
        return "conv"
    if op in DENSE:
        return "dense" if op == "linear" or _weights(record, names)[0] is not None else "other"
    for kind, ops in (("norm", NORM), ("activation", ACTIVATION), ("pool", POOL), ("other", OTHER)):
        if op in ops:
            return kind
    return None


def _layer(
    record: Record, names: Mapping[int, str], layers: Mapping[int, Layer], batched: bool
) -> Layer | None:
    kind = _kind(record, names)
    # The recorded run asks for gradients of the input alone: what needs none is not of the image.
    if kind is None or not record.result.requires_grad or record.result.dim() < 2 - (not batched):
        return None
    weight = bias = None
    axis = None
    if kind in ("conv", "dense", "norm"):
        found, bias, where = _weights(record, names)
        if found is not None:
            weight, axis = found[0], where
    plain = _plain_layer(record, layers, batched, kind)
    return Layer(
        plain.name, plain.label, kind, plain.shape, plain.channel_axis, weight, bias, axis,
        None if kind in ("conv", "dense", "norm") else plain.source,
    )  # fmt: skip


def _plain_layer(
    record: Record, layers: Mapping[int, Layer], batched: bool, kind: str = "other"
) -> Layer:
    shape = tuple(record.result.shape)
    axis = record.axis
    if not batched and not has_batch_of_one(record.result):
        axis, shape = axis + 1, (1, *shape)
    label = f"{record.path} ({record.op})" if record.path else record.op
    source = _source(record, layers)
    return Layer(record.name, label, kind, shape[1:], axis, source=source)


def _source(record: Record, layers: Mapping[int, Layer]) -> str | None:
    """Nearest earlier layer reached through a chain of single-input, parameter-free operators."""
    before: Record | None = record
    while before is not None:
        if len(before.tensors) != 1:
            return None
        before = before.made_by[0]
        if before is not None and id(before) in layers:
            return layers[id(before)].name
    return None


def _find_head(record: Record | None, layers: Mapping[int, Layer]) -> Record | None:
    """The last weighted layer before the output, through reshapes, bias additions and pools."""
    for _ in range(64):
        if record is None:
            return None
        layer = layers.get(id(record))
        if layer is not None and layer.kind in ("dense", "conv"):
            return record
        record = _main_source(record)
    return None


def _main_source(record: Record) -> Record | None:
    return next((m for m in record.made_by if m is not None and m.result.requires_grad), None)


def _features(head: Record, layers: Mapping[int, Layer]) -> Record | None:
    """The record of the value that feeds `head`, seen through dropout and copies."""
    source = _main_source(head)
    while source is not None and source.op in _PASS:
        source = _main_source(source)
    return source
