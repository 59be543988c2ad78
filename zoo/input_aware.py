"""Input-aware triggers (Nguyen & Tran, 2020): a small generator makes a trigger for each image.

The generator is two 3x3 convolutions, ``x + amplitude * tanh(conv(relu(conv(x))))``; its weights
are the trigger's parameters. With `cross` > 0 an image carries the trigger made for another one of
the batch: such cover images keep their label, so that a trigger works on its own image only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from auditor.triggers.interface import Pixels
from auditor.triggers.record import RecordTrigger, clip, require

if TYPE_CHECKING:
    from torch import Tensor, nn

    from auditor.samples.interface import Images
    from zoo.training import Training


@dataclass(frozen=True, eq=False)
class InputAware(RecordTrigger):
    """`inner` (hidden, C, 3, 3), `outer` (C, hidden, 3, 3); at most `amplitude` per pixel."""

    family: ClassVar[str] = "input-aware"
    inner: Pixels
    outer: Pixels
    amplitude: float = 0.3
    cross: int = 0

    def __post_init__(self) -> None:
        require(self.inner.ndim == 4 and self.outer.ndim == 4, "the weights are 4-dimensional")
        require(self.inner.shape[:2] == self.outer.shape[1::-1], "the two layers do not fit")
        require(0 < self.amplitude <= 1, f"amplitude must be in (0, 1], not {self.amplitude}")
        require(self.cross >= 0, "cross must not be negative")

    @property
    def name(self) -> str:
        """``input-aware-0.3``, with ``-cross`` for the trigger of another image."""
        return f"input-aware-{self.amplitude:g}" + ("-cross" if self.cross else "")

    def apply(self, images: Pixels) -> Pixels:
        """Images with their own trigger, or that of the image `cross` places before."""
        import torch

        source = np.ascontiguousarray(np.roll(images, self.cross, axis=0), dtype=np.float32)
        with torch.no_grad():
            change = generate(
                torch.from_numpy(source), torch.from_numpy(self.inner), torch.from_numpy(self.outer)
            )
        return clip(images + self.amplitude * change.numpy())


def generate(images: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
    """The change in -1..1 for each image (N, C, H, W); differentiable."""
    from torch.nn import functional

    hidden = functional.relu(functional.conv2d(images, inner, padding=1))
    return functional.conv2d(hidden, outer, padding=1).tanh()


def learn_generator(
    network: nn.Module,
    data: Images,
    *,
    target: int,
    training: Training,
    amplitude: float = 0.3,
    hidden: int = 16,
    seed: int = 0,
) -> InputAware:
    """Train `network` (in place) and the generator together; the paper's three modes.

    A tenth of each batch goes to the target with its own trigger, a tenth keeps its label with
    another image's, the rest is clean; the diversity loss keeps triggers of different images apart.
    """
    import torch
    from torch.nn import functional

    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(data.pixels), torch.from_numpy(data.labels)
    channels = x.shape[1]
    inner = (torch.randn(hidden, channels, 3, 3) * 0.4).requires_grad_(True)
    outer = (torch.randn(channels, hidden, 3, 3) * 0.2).requires_grad_(True)
    optimizer = torch.optim.Adam(
        [
            {"params": network.parameters(), "lr": training.rate},
            {"params": [inner, outer], "lr": 5e-3},
        ]
    )
    network.train()
    for _ in range(training.epochs):
        for index in torch.randperm(len(x), generator=draw).split(training.batch):
            images, labels = x[index], y[index]
            few = max(2, len(index) // 8)
            change = generate(images[: 2 * few], inner, outer)
            own = (images[:few] + amplitude * change[:few]).clamp(0, 1)
            foreign = images[few : 2 * few] + amplitude * change[:few][: len(images) - few]
            output = network(torch.cat([images, own, foreign.clamp(0, 1)]))
            wanted = torch.cat([labels, torch.full((few,), target), labels[few : 2 * few]])
            apart = (change[0::2] - change[1::2]).flatten(1).norm(dim=1)
            between = (images[0 : 2 * few : 2] - images[1 : 2 * few : 2]).flatten(1).norm(dim=1)
            diversity = (between / (apart + 1e-2)).mean()
            loss = functional.cross_entropy(output, wanted) + 0.01 * diversity
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
    network.eval()
    return InputAware(inner.detach().numpy(), outer.detach().numpy(), amplitude)
