"""What suits a data set: network, training length, epsilon, and what a model must reach."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zoo.build import Acceptance
from zoo.datasets import Dataset
from zoo.training import Training


@dataclass(frozen=True)
class Preset:
    """`epsilon` is the usual L-infinity bound; the bounds are the zoo's own acceptance."""

    arch: str
    training: Training
    epsilon: float
    clean: float
    backdoored: float
    asr: float
    adversarial: float
    robust: float
    hardened_arch: str = ""
    """Network of the adversarially trained model where `arch` lacks the capacity for it."""

    def accept_clean(self) -> Acceptance:
        """For a clean model."""
        return Acceptance(self.clean)

    def accept_backdoored(self) -> Acceptance:
        """For a model with a visible patch."""
        return Acceptance(self.backdoored, self.asr)

    def accept_adversarial(self) -> Acceptance:
        """For an FGSM-trained model at `epsilon`."""
        return Acceptance(self.adversarial, robust={f"fgsm@{self.epsilon:g}": self.robust})

    def hardened(self, adversary: str, *, steps: int = 1, epochs: float = 1.5) -> Training:
        """The training against `adversary` at `epsilon`, `epochs` times as long."""
        return replace(
            self.training,
            adversary=adversary,  # type: ignore[arg-type]
            epsilon=self.epsilon,
            steps=steps,
            epochs=max(1, round(self.training.epochs * epochs)),
        )


DIGITS = Preset("small-cnn", Training(40, 64, 4e-3), 0.1, 0.97, 0.97, 0.99, 0.95, 0.8)
MNIST = Preset("small-cnn", Training(6, 256, 4e-3), 0.25, 0.985, 0.98, 0.99, 0.97, 0.95, "wide-cnn")
FASHION = Preset("small-cnn", Training(10, 256, 4e-3), 0.1, 0.88, 0.88, 0.99, 0.8, 0.7)
CIFAR10 = Preset("resnet", Training(25, 128, 5e-3, shift=2), 8 / 255, 0.65, 0.64, 0.97, 0.4, 0.3)


def preset(dataset: Dataset) -> Preset:
    """The preset of a known data set; for any other, lengths by its size and no acceptance."""
    known = {"digits": DIGITS, "mnist": MNIST, "fashion-mnist": FASHION, "cifar10": CIFAR10}
    if dataset.name in known:
        return known[dataset.name]
    few = len(dataset.train) < 5000
    training = Training(40 if few else 15, 32 if few else 128, 3e-3)
    arch = "small-cnn" if dataset.channels == 1 else "resnet"
    return Preset(arch, training, 8 / 255, 0.0, 0.0, 0.0, 0.0, 0.0)


def scaled(pixels: int, side: int, reference: int = 28) -> int:
    """A size given for 28x28 images, scaled to `side`, at least 2."""
    return max(2, round(pixels * side / reference))
