"""Which values can be probed, which of them is the head, and what ends the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditor.artifacts.onnx_load import operator_name
from auditor.twin.interface import Layer
from auditor.twin.onnx.frontend import Program
from auditor.twin.onnx.program import Step

_CONV = {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "com.microsoft::FusedConv"}
_DENSE = {"Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"}
_DENSE |= {"com.microsoft::FusedGemm", "com.microsoft::FusedMatMul", "com.microsoft::QGemm"}
_NORM = {"BatchNormalization", "LayerNormalization", "InstanceNormalization", "LRN"}
_NORM |= {"GroupNormalization", "RMSNormalization", "com.microsoft::SkipLayerNormalization"}
_ACTIVATION = {"Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid"}
_ACTIVATION |= {"HardSigmoid", "HardSwish", "Mish", "Swish", "Softplus", "Softsign", "Tanh"}
_ACTIVATION |= {"ThresholdedRelu", "com.microsoft::Gelu", "com.microsoft::QuickGelu"}
_POOL = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool"}
_POOL |= {"ReduceMean", "ReduceMax"}
_VIEW = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast", "Transpose"}
_QUANTIZE = {"QuantizeLinear", "DequantizeLinear"}
_SAME = {"Identity", "Cast", "CastLike", "QuantizeLinear", "DequantizeLinear"}
_TAILS = {"Softmax": "softmax", "LogSoftmax": "log-softmax", "Sigmoid": "sigmoid", "Relu": "relu"}

Shapes = dict[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Structure:
    """`logits` is the slot of the class scores, `main` the index of the output they belong to."""

    layers: tuple[Layer, ...]
    slots: dict[str, int]
    head: Layer | None
    features: str | None
    main: int
    logits: int
    tail: str


def describe_structure(program: Program, shapes: Shapes) -> Structure:
    """Work out the structure; `shapes` holds per-sample shapes of values that carry a batch."""
    return _Structure(program, shapes).build()


class _Structure:
    def __init__(self, program: Program, shapes: Shapes) -> None:
        self.program = program
        self.shapes = shapes
        self.names = {slot: value.name or "" for value, slot in program.values.items()}
        self.producers = {slot: step for step in program.steps for slot in step.outputs}
        # Reversed: where two values share a slot, the first is the one its operator made.
        values = reversed(program.values.items())
        self.nodes = {slot: value.producer() for value, slot in values}
        self.constants = {
            slot: value for value, slot in program.values.items() if program.slots[slot] is not None
        }
        self.axes: dict[int, int] = {}
        self.by_slot: dict[int, Layer] = {}

    def build(self) -> Structure:
        for step in self.program.steps:
            if step.data and step.outputs[0] in self.shapes:
                self._add(step)
        main = self._main_output()
        tail, logits = self._tail(self.program.outputs[main])
        head = self._head(logits)
        return Structure(
            layers=tuple(self.by_slot.values()),
            slots={layer.name: slot for slot, layer in self.by_slot.items()},
            head=head,
            features=self._feeding(head),
            main=main,
            logits=logits,
            tail=tail,
        )

    def _add(self, step: Step) -> None:
        slot, shape = step.outputs[0], self.shapes[step.outputs[0]]
        source = self._data_input(step)
        kind = self._kind(step)
        weight = self._weight(step) if kind in ("conv", "dense") else (None, None, None)
        if kind == "norm" and len(step.inputs) > 2:
            scale, shift = (self._trace(at, 0) for at in step.inputs[1:3])
            weight = (scale[0] if scale else None, 0, shift[0] if shift else None)
        if kind == "other" and self._adds_bias(step):
            kind, weight = "dense", self._dense_with_bias(step)
        axis = self._channel_axis(step, kind, source, len(shape) + 1)
        self.axes[slot] = axis
        direct = kind in ("activation", "pool") or step.node.op in _VIEW | _QUANTIZE
        known = self.by_slot.get(source) if source is not None and direct else None
        self.by_slot[slot] = Layer(
            name=self.names[slot],
            label=self._label(step, slot),
            kind=kind,
            shape=shape,
            channel_axis=axis,
            weight=weight[0],
            weight_axis=weight[1],
            bias=weight[2],
            source=known.name if known else None,
        )

    def _kind(self, step: Step) -> str:
        name = step.node.op
        if name in _CONV:
            return "conv"
        if name in _DENSE and any(slot in self.constants for slot in step.inputs):
            return "dense"
        if name in _NORM:
            return "norm"
        if name in _ACTIVATION:
            return "activation"
        return "pool" if name in _POOL else "other"

    def _label(self, step: Step, slot: int) -> str:
        """Operator and where the exporter says it comes from."""
        node = self.nodes.get(slot)
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "") if node else ""
        parts = [part.strip(" '\"[]") for part in scopes.split(",")]
        place = next((part for part in reversed(parts[:-1]) if part), "")
        return f"{step.node.op} {place or step.node.name or self.names[slot]}"

    def _data_input(self, step: Step) -> int | None:
        """The one input that depends on the image, None when there are several."""
        found = {slot for slot in step.inputs if slot in self.shapes and slot in self.producers}
        found |= {slot for slot in step.inputs if slot == self.program.input}
        data = [slot for slot in found if slot not in self.constants]
        return data[0] if len(data) == 1 else None

    def _channel_axis(self, step: Step, kind: str, source: int | None, rank: int) -> int:
        if kind == "conv":
            return 1
        if kind == "dense":
            return rank - 1
        before = self.axes.get(source) if source is not None else None
        if before is not None:
            if step.node.op == "Transpose":
                perm = step.node.get("perm") or list(reversed(range(rank)))
                return list(perm).index(before) if before in perm else 1
            assert source is not None
            if len(self.shapes[source]) + 1 == rank:
                return before
        return rank - 1 if rank == 3 else 1

    def _weight(self, step: Step) -> tuple[str | None, int | None, str | None]:
        """Parameter names of weight and bias, and the weight's output axis."""
        name = step.node.op
        if name in ("Conv", "com.microsoft::FusedConv"):
            found = self._trace(step.inputs[1], 0)
        elif name == "ConvTranspose":
            found = self._trace(step.inputs[1], 1) if step.node.get("group", 1) == 1 else None
        elif name in ("Gemm", "com.microsoft::FusedGemm"):
            found = self._trace(step.inputs[1], 0 if step.node.get("transB", 0) else 1)
        elif name == "MatMul" and step.inputs[1] in self.constants:
            found = self._trace(step.inputs[1], self._rank(step.inputs[1]) - 1)
        else:
            found = None
        parameter, axis = found or (None, None)
        has_bias = name != "MatMul" and len(step.inputs) > 2 and step.inputs[2] >= 0
        bias = self._trace(step.inputs[2], self._rank(step.inputs[2]) - 1) if has_bias else None
        return parameter, axis, bias[0] if bias else None

    def _rank(self, slot: int) -> int:
        value = self.program.slots[slot]
        return value.dim() if value is not None else 1

    def _trace(self, slot: int, axis: int) -> tuple[str, int] | None:
        """Follow a weight back to the stored parameter, and its output axis with it."""
        by_slot = {at: name for name, at in self.program.parameters.items()}
        while slot not in by_slot:
            node = self.nodes.get(slot)
            if node is None or not node.inputs or node.inputs[0] is None:
                return None
            name = operator_name(node)
            if name == "Transpose":
                perm = node.attributes.get_ints("perm", None)
                rank = self._rank(slot)
                axis = list(perm)[axis] if perm else rank - 1 - axis
            elif name not in _SAME:
                return None
            slot = self.program.values[node.inputs[0]]
        return by_slot[slot], axis

    def _adds_bias(self, step: Step) -> bool:
        """True for the Add after a MatMul whose other side is a constant vector."""
        source = self._data_input(step)
        layer = self.by_slot.get(source) if source is not None else None
        producer = self.producers.get(source) if source is not None else None
        if step.node.op != "Add" or layer is None or producer is None or layer.kind != "dense":
            return False
        other = [slot for slot in step.inputs if slot != source]
        units = layer.shape[-1] if layer.shape else 0
        return (
            producer.node.op == "MatMul"
            and len(other) == 1
            and other[0] in self.constants
            and self.program.slots[other[0]].numel() == units
        )

    def _dense_with_bias(self, step: Step) -> tuple[str | None, int | None, str | None]:
        source = self._data_input(step)
        assert source is not None
        layer = self.by_slot[source]
        bias = next((s for s in step.inputs if s != source), -1)
        traced = self._trace(bias, 0)
        return layer.weight, layer.weight_axis, traced[0] if traced else None

    def _main_output(self) -> int:
        """The output that looks like class scores: (N, C), or (N, C, 1, 1)."""
        for wanted in (1, 3, 2, 4):
            for index, slot in enumerate(self.program.outputs):
                shape = self.shapes.get(slot, ())
                if len(shape) == wanted and shape[0] > 1 and set(shape[1:]) <= {1}:
                    return index
        return 0

    def _tail(self, slot: int) -> tuple[str, int]:
        """What ends the network, and the slot before it."""
        at, classes = slot, _size(self.shapes.get(slot, ()))
        while at in self.producers:
            step = self.producers[at]
            name = step.node.op
            if name in _TAILS and _size(self.shapes.get(at, ())) == classes:
                kind = _TAILS[name]
                return kind, slot if kind == "relu" else step.inputs[0]
            if name == "Log" and self._before(step, "Softmax"):
                return "log-softmax", self.producers[step.inputs[0]].inputs[0]
            if name not in _VIEW | _QUANTIZE:
                break
            at = step.inputs[0]
        return "logits", slot

    def _before(self, step: Step, name: str) -> bool:
        producer = self.producers.get(step.inputs[0])
        return producer is not None and producer.node.op == name

    def _head(self, slot: int) -> Layer | None:
        """The last dense or conv layer, if it gives one score per class."""
        classes = _size(self.shapes.get(slot, ()))
        at: int | None = slot
        while at is not None and at in self.producers:
            layer = self.by_slot.get(at)
            if layer is not None and layer.kind in ("dense", "conv"):
                sizes = {layer.shape[layer.channel_axis - 1], _size(layer.shape)}
                return layer if classes in sizes else None
            at = self._data_input(self.producers[at])
        return None

    def _feeding(self, head: Layer | None) -> str | None:
        """The layer value that feeds `head`."""
        if head is None:
            return None
        slot = next(at for at, layer in self.by_slot.items() if layer is head)
        step = self.producers[slot]
        source = self._data_input(step)
        if step.node.op == "Add" and source is not None:
            source = self._data_input(self.producers[source])
        layer = self.by_slot.get(source) if source is not None else None
        return layer.name if layer else None


def _size(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
