"""The artifact as a classifier of images in 0..1. Lives in the sandbox child only.

Joins what the format offers (native runtime, differentiable twin) with the preprocessing, so that
checks, attacks and repairs speak of images and class scores and never of layouts or formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from auditor.artifacts.interface import Array, Runtime
from auditor.errors import UnsupportedArtifact

if TYPE_CHECKING:
    from torch import Tensor

    from auditor.samples.preprocessing import Preprocessing
    from auditor.twin.interface import Layer, Twin

Pixels = NDArray[np.float32]
_BATCH_VALUES = 8_000_000


@dataclass(frozen=True, slots=True)
class Native:
    """The runtime with the one output that holds class scores.

    `output` is its position; `classes` the number of classes (2 for a single-score model).
    """

    runtime: Runtime
    output: int
    classes: int

    def scores(self, batch: Array) -> NDArray[np.float32]:
        """(N, classes) scores of a native-layout batch; argmax is the predicted class."""
        return as_scores(self.runtime.run(batch)[self.output])


def as_scores(output: Array) -> NDArray[np.float32]:
    """(N, K) float32 from (N, K), (N, K, 1, 1) or one score per image (made two classes).

    A single score is read as P(class 1) when it lies in 0..1, else as its logit.
    """
    flat = np.asarray(output).reshape(len(output), -1).astype(np.float32, copy=False)
    if flat.shape[1] != 1:
        return flat
    inside = bool(np.all((flat >= 0) & (flat <= 1)))
    other = 1 - flat if inside else np.zeros_like(flat)
    return np.concatenate([other, flat], axis=1)


def pick_output(outputs: Sequence[Array], batch: int) -> int:
    """Position of the output that looks like class scores; `UnsupportedArtifact` if none does."""
    shapes = []
    for position, output in enumerate(outputs):
        array = np.asarray(output)
        shapes.append("x".join(map(str, array.shape)) or "scalar")
        wide = array.ndim >= 2 and all(s == 1 for s in array.shape[2:])
        if wide and array.shape[0] == batch and np.issubdtype(array.dtype, np.floating):
            return position
    raise UnsupportedArtifact(
        f"this is not an image classifier: its output ({', '.join(shapes) or 'nothing'}) is not "
        "one score per class"
    )


class Classifier:
    """Images in, class scores out, natively and through the twin.

    `image_shape` (C, H, W) is the shape checks should use. `twin` is None when no differentiable
    form could be had or it disagrees with the native runtime; `twin_reason` then says why.
    """

    def __init__(
        self,
        native: Native,
        preprocessing: Preprocessing,
        image_shape: tuple[int, int, int],
        twin: Twin | None = None,
        twin_reason: str = "",
        device: str = "cpu",
    ) -> None:
        self.native = native
        self.preprocessing = preprocessing
        self.image_shape = image_shape
        self.twin = twin
        self.twin_reason = twin_reason
        self.device = device

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.native.classes

    @property
    def has_twin(self) -> bool:
        """True when gradients and activations are available."""
        return self.twin is not None

    def predict(self, images: Pixels) -> NDArray[np.float32]:
        """Scores (N, K) of float32 images (N, C, H, W) in 0..1 by the native runtime.

        Logits where the model gives them, else whatever it gives (probabilities); the order of
        classes by score is always the model's own.
        """
        import torch

        size = max(1, min(256, _BATCH_VALUES // max(1, int(np.prod(images.shape[1:])))))
        parts = []
        with torch.no_grad():
            for start in range(0, len(images), size):
                chunk = torch.from_numpy(np.ascontiguousarray(images[start : start + size]))
                parts.append(self.native.scores(self.preprocessing.apply(chunk).numpy()))
        if not parts:
            return np.zeros((0, self.classes), np.float32)
        return np.concatenate(parts)

    def labels(self, images: Pixels) -> NDArray[np.int64]:
        """Predicted classes (N,) by the native runtime."""
        predicted: NDArray[np.int64] = self.predict(images).argmax(axis=1)
        return predicted

    def preprocess(self, images: Tensor) -> Tensor:
        """The model's own input for images (N, C, H, W) in 0..1; differentiable."""
        return self.preprocessing.apply(images)

    def twin_logits(self, images: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Differentiable class scores (N, K) through the twin; needs `has_twin`."""
        return self.twin_run(images, (), parameters)[0]

    def twin_run(
        self,
        images: Tensor,
        wanted: Sequence[str],
        parameters: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Logits (N, K) and the values of the `wanted` layers, gradients flowing."""
        assert self.twin is not None
        run = self.twin.run(self.preprocess(images), wanted=wanted, parameters=parameters)
        return _two_classes(run.logits), run.values

    @property
    def layers(self) -> Sequence[Layer]:
        """Layers of the twin in execution order; empty without a twin."""
        return self.twin.layers if self.twin is not None else ()

    def features(self, images: Pixels, batch: int = 128) -> NDArray[np.float32]:
        """Penultimate activations (N, D), the input of the last learned layer; needs a twin."""
        import torch

        assert self.twin is not None
        assert self.twin.features is not None
        parts = []
        with torch.no_grad():
            for start in range(0, len(images), batch):
                chunk = torch.from_numpy(images[start : start + batch]).to(self.device)
                _, values = self.twin_run(chunk, (self.twin.features,))
                parts.append(values[self.twin.features].flatten(1).cpu().numpy())
        return np.concatenate(parts)


def _two_classes(logits: Tensor) -> Tensor:
    import torch

    flat = logits.flatten(1)
    if flat.shape[1] == 1:
        return torch.cat([torch.zeros_like(flat), flat], dim=1)
    return flat
