"""From one recorded run of aten operators to layers, penultimate features and the final tail.

The analysis reads what really ran (`auditor.twin.aten_record`), so ``if`` and ``for`` need no
special care.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from auditor.twin.aten_record import (
    ACTIVATION,
    CONV,
    CONV_TRANSPOSE,
    DENSE,
    NORM,
    OTHER,
    PASS,
    POOL,
    RESHAPE,
    Record,
    Recorder,
    has_batch_of_one,
)
from auditor.twin.interface import Layer

_TAILS = {
    "softmax": "softmax", "_softmax": "softmax", "log_softmax": "log-softmax",
    "_log_softmax": "log-softmax", "sigmoid": "sigmoid", "relu": "relu",
}  # fmt: skip


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
    features = _features(head_record) if head_record is not None else None
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
    while record is not None and (record.op in RESHAPE or _takes_all(record)):
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
    while made_by is not None and made_by.op in {"t", "transpose", "permute", *PASS}:
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
        value = record.argument(index)
        pair.append(_resolve_parameter(value, _maker_of(record, value), names))
    weight, bias = pair
    transposed_conv = op in CONV_TRANSPOSE or (op in CONV and _is_transposed(record))
    axis = 1 if transposed_conv else 0
    if op in ("addmm", "mm", "matmul") and weight is not None:
        axis = 0 if weight[1] else 1
    return weight, bias[0] if bias else None, axis


def _is_transposed(record: Record) -> bool:
    return record.op in ("_convolution", "convolution") and bool(record.argument(6))


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


def _features(head: Record) -> Record | None:
    """The record of the value that feeds `head`, seen through dropout and copies."""
    source = _main_source(head)
    while source is not None and source.op in PASS:
        source = _main_source(source)
    return source
