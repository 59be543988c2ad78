"""Channels of a network and how one is silenced, with and without batch normalisation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from auditor.classifier import Classifier
    from auditor.twin.interface import Layer

_MOVED = 1e-12


@dataclass(frozen=True, slots=True)
class Block:
    """A hidden conv or dense layer and, if one follows directly, its normalisation.

    A channel is silenced where it ends: in the normalisation's scale and shift, else in the
    layer's weight and bias.
    """

    layer: Layer
    norm: Layer | None = None

    @property
    def channels(self) -> int:
        """Number of output channels or units."""
        return int(self.layer.shape[self.layer.channel_axis - 1])

    @property
    def switches(self) -> tuple[tuple[str, int], ...]:
        """(parameter, its channel axis) of everything that is zero for a silent channel."""
        end = self.norm or self.layer
        found = []
        if end.weight is not None:
            found.append((end.weight, (end.weight_axis or 0) if end is self.layer else 0))
        if end.bias is not None:
            found.append((end.bias, 0))
        return tuple(found)


def blocks(classifier: Classifier) -> list[Block]:
    """Every hidden layer with a known weight, in order; the head is not among them."""
    twin = classifier.twin
    assert twin is not None
    head = twin.head.name if twin.head is not None else None
    order: Sequence[Layer] = twin.layers
    found: dict[str, Block] = {}
    for index, layer in enumerate(order):
        if layer.kind not in ("conv", "dense") or layer.weight is None or layer.name == head:
            continue
        after = order[index + 1] if index + 1 < len(order) else None
        follows = after is not None and after.kind == "norm" and after.weight is not None
        same = follows and after is not None and after.shape == layer.shape
        # Several values can belong to one weight (a product, then its bias): the last one counts.
        found[layer.weight] = Block(layer, after if same else None)
    return [block for block in found.values() if block.switches]


def silenced(
    classifier: Classifier, cut: Iterable[tuple[Block, Tensor]]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters with the channels of each block at zero, and the masks (1 keep, 0 cut)."""
    import torch

    assert classifier.twin is not None
    parameters: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for block, index in cut:
        for name, axis in block.switches:
            value = classifier.twin.parameters[name]
            mask = masks.get(name, torch.ones_like(value)).clone()
            mask.index_fill_(axis if value.ndim > 1 else 0, index.to(value.device), 0.0)
            masks[name], parameters[name] = mask, value * mask
    return parameters, masks


def gains(classifier: Classifier, found: Sequence[Block], seed: int) -> Mapping[str, Tensor]:
    """By layer name, how much its normalisation scales each channel (C,); 1 without one.

    Read off noise images: scale, running variance and epsilon need not be known by name.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    noise = torch.rand((16, *classifier.image_shape), generator=draw).to(classifier.device)
    wanted = [x.name for b in found if b.norm is not None for x in (b.layer, b.norm)]
    with torch.no_grad():
        values = classifier.twin_run(noise, tuple(wanted))[1] if wanted else {}
    result = {}
    for block in found:
        if block.norm is None:
            result[block.layer.name] = torch.ones(block.channels, device=classifier.device)
            continue
        spread = [
            values[layer.name].movedim(layer.channel_axis, 0).flatten(1).std(1)
            for layer in (block.layer, block.norm)
        ]
        result[block.layer.name] = spread[1] / spread[0].clamp_min(_MOVED)
    return result
