"""The twin: the artifact as a differentiable torch function, with named parameters and layers.

A twin takes a batch in the artifact's own input layout (float32) and returns what the artifact
returns. Weights do not ask for gradients unless a caller passes replacements that do. The twin is
functional: `run(..., parameters={...})` uses replacements for that call only, so masks, noise and
fine-tuning never touch shared state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class NoTwin(Exception):
    """No differentiable twin can be had; the message names the operator or construct."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A value inside the network, in execution order.

    `name` is what `Twin.run` accepts in `wanted`; `label` is for people. `kind` is one of ``conv``,
    ``dense``, ``norm``, ``activation``, ``pool``, ``other``. `shape` is the per-sample output shape
    (without batch), `channel_axis` the axis of channels/units in the batched output. `weight` and
    `bias` name artifact parameters (None if it has none or they are computed); `weight_axis` is the
    axis of `weight` that indexes output channels. `source` is the layer value this one was computed
    from when that is a direct parameter-free chain (activation, pool, reshape), else None.
    """

    name: str
    label: str
    kind: str
    shape: tuple[int, ...]
    channel_axis: int
    weight: str | None = None
    bias: str | None = None
    weight_axis: int | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class TwinRun:
    """`outputs` as the artifact returns them, in order; `values` holds the wanted layer outputs.

    `logits`, (N, C): the class scores before a final softmax/log-softmax where they could be
    recovered, otherwise the main output itself (see `Twin.tail`).
    """

    outputs: tuple[Tensor, ...]
    logits: Tensor
    values: Mapping[str, Tensor] = field(default_factory=dict)


class Twin(ABC):
    """Differentiable form of one artifact."""

    parameters: Mapping[str, Tensor]
    """Float parameters by the artifact's own names, detached; do not modify in place."""

    layers: Sequence[Layer]
    """Values that can be probed, in execution order."""

    tail: str
    """What ends the network: ``logits``, ``softmax``, ``log-softmax``, ``sigmoid`` or ``relu``.

    For softmax, log-softmax and sigmoid `TwinRun.logits` is taken before it.
    """

    without_gradient: Sequence[str] = ()
    """Operators present through which no useful gradient flows by themselves."""

    @abstractmethod
    def run(
        self,
        batch: Tensor,
        *,
        wanted: Sequence[str] = (),
        parameters: Mapping[str, Tensor] | None = None,
    ) -> TwinRun:
        """Run `batch` (N, ...) in the artifact's own layout, any N, gradients flowing to it.

        `parameters` replaces some of `self.parameters` in this call; gradients flow to them too.
        Raises `KeyError` for unknown names.
        """

    @property
    def head(self) -> Layer | None:
        """The last dense (or 1x1 conv) layer that gives one score per class."""
        return next((la for la in reversed(self.layers) if la.kind in {"dense", "conv"}), None)

    features: str | None = None
    """Name of the layer value that feeds `head` (penultimate activations), if known."""
