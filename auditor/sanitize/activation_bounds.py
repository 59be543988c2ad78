"""Activation bounds: no unit may fire harder than clean images make it (max-margin mitigation).

Wang et al., "MM-BD" (S&P 2024): a backdoor wins by activations far above the usual ones; an upper
bound a channel stops them and changes no weight. The paper learns the bounds by gradient; here they
are a multiple of each channel's high quantile on clean samples, the tightest at which held-out
accuracy stays. ONNX only: the bounds become nodes Div, Clip, Mul behind every activation (Clip
takes one number, the division gives each channel its own); TorchScript and .pt2 code is not edited.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from auditor.sanitize.interface import Repair, RepairContext, Sanitizer
from auditor.sanitize.judge import allowed_drop
from auditor.sanitize.measure import twin_accuracy

if TYPE_CHECKING:
    import onnx_ir as ir

    from auditor.twin.interface import Layer

_TIGHTNESS = (1.5, 1.2, 1.0, 0.85, 0.7, 0.55, 0.4)
_QUANTILE = 0.99
_LEAST = 1e-6
PREFIX = "auditor.bound"


class ActivationBounds(Sanitizer):
    """Clip every channel of every activation at what clean images need."""

    name = "activation-bounds"
    title = "Activation bounds (max-margin mitigation)"
    doc = __doc__ or ""
    order = 70

    def repair(self, context: RepairContext) -> Repair | None:
        """Bounds by value name; None for other formats and networks without activations."""
        found = _activations(context)
        if context.path is None or context.path.suffix.lower() != ".onnx" or not found:
            return None
        usual = _usual(context, found)
        floor = twin_accuracy(context.classifier, context.held_out) - allowed_drop(context)
        kept: tuple[float, dict[str, NDArray[np.float32]]] | None = None
        for tightness in _TIGHTNESS:
            bounds = {
                n: np.maximum(v * tightness, _LEAST).astype(np.float32) for n, v in usual.items()
            }
            if context.budget.spent or bounded_accuracy(context, bounds) < floor:
                break
            kept = (tightness, bounds)
        if kept is None:
            return None
        record = {"tightness": kept[0], "bounded_layers": len(found)}
        return Repair(self.name, {}, record, bounds=kept[1])


def _activations(context: RepairContext) -> list[Layer]:
    """Activations with channels; a network's end is not bounded."""
    layers = context.classifier.layers
    return [layer for layer in layers[:-1] if layer.kind == "activation" and layer.shape]


def _usual(context: RepairContext, found: list[Layer]) -> dict[str, NDArray[np.float32]]:
    """By value name, a high quantile of each channel's largest activation an image, (C,)."""
    import torch

    images = torch.from_numpy(context.train.pixels[:256]).to(context.classifier.device)
    with torch.no_grad():
        _, values = context.classifier.twin_run(images, tuple(x.name for x in found))
    result = {}
    for layer in found:
        value = values[layer.name].movedim(layer.channel_axis, 1)
        peaks = value.flatten(2).amax(2) if value.ndim > 2 else value
        result[layer.name] = torch.quantile(peaks, _QUANTILE, dim=0).cpu().numpy()
    return result


def bounded_accuracy(context: RepairContext, bounds: dict[str, NDArray[np.float32]]) -> float:
    """Held-out accuracy of the network with the Clip nodes in it."""
    import dataclasses

    from auditor.classifier import Classifier

    assert context.path is not None
    twin = bounded_twin(context.path, bounds)
    given = context.classifier
    bounded = Classifier(given.native, given.preprocessing, given.image_shape, twin)
    return twin_accuracy(
        dataclasses.replace(context, classifier=bounded).classifier, context.held_out
    )


def bounded_twin(path: Path, bounds: dict[str, NDArray[np.float32]]):  # type: ignore[no-untyped-def]
    """The twin of the model at `path` with `bounds` in its graph."""
    from auditor.twin.onnx.network import open_onnx_twin

    return open_onnx_twin(insert_bounds(path, bounds))


def insert_bounds(path: Path, bounds: dict[str, NDArray[np.float32]]) -> ir.Model:
    """The ONNX model with ``value / z -> Clip(max 1) -> * z`` behind each value of `bounds`.

    `z` (C,) is stored once a layer, shaped to lie along the channel axis (1, or the last of 2).
    Raises `KeyError` for a value that the main graph does not have.
    """
    import onnx_ir as ir

    from auditor.artifacts import onnx_load, onnx_parse

    model = onnx_load.to_ir(onnx_parse.read_model(path).proto, path)
    ir.external_data.load_to_model(model)
    graph = model.graph
    values = {str(v.name): v for node in graph for v in node.outputs}
    for number, (name, bound) in enumerate(bounds.items()):
        value = values[name]
        producer = value.producer()
        assert producer is not None
        rank = len(value.shape) if value.shape is not None else 4
        shape = (1, len(bound)) if rank == 2 else (1, len(bound), *([1] * (rank - 2)))
        z = ir.Value(name=f"{PREFIX}.{number}")
        z.const_value = ir.tensor(bound.reshape(shape), name=z.name)
        z.dtype, z.shape = ir.DataType.FLOAT, ir.Shape(shape)
        graph.register_initializer(z)
        uses = list(value.uses())
        share = ir.node("Div", [value, z])
        one = ir.node("Constant", [], attributes={"value": ir.tensor(np.float32(1.0))})
        clip = ir.node("Clip", [share.outputs[0], None, one.outputs[0]])
        back = ir.node("Mul", [clip.outputs[0], z])
        graph.insert_after(producer, [share, one, clip, back])
        for index, node in enumerate((share, one, clip, back)):
            node.outputs[0].name = f"{PREFIX}.{number}.{index}"
        for use in uses:
            use.node.replace_input_with(use.idx, back.outputs[0])
    return model
