"""Training: Adam with a one-cycle or constant rate, plain or against an adversary.

The adversaries: FGSM with random start (Wong, Rice & Kolter, 2020), PGD (Madry et al., 2018) and
TRADES (Zhang et al., 2019). Epsilon is always in 0..1 image units; the input transform belongs to
the network wrapper (`Normalised`), so that the box 0..1 is respected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from auditor.manifest import Transform
from auditor.samples.interface import Images

Adversary = Literal["none", "fgsm", "pgd", "trades"]


@dataclass(frozen=True)
class Training:
    """Hyper-parameters. `clean_share` weighs the clean loss in adversarial training."""

    epochs: int = 10
    batch: int = 128
    rate: float = 2e-3
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    weight_decay: float = 0.0
    adversary: Adversary = "none"
    epsilon: float = 0.0
    steps: int = 1
    first_steps: int = 0
    """PGD and TRADES steps in the first epoch, growing evenly to `steps` in the last; 0: always
    `steps`. Weak networks need no long attacks: a third of the time is saved."""
    step_size: float = 0.0
    clean_share: float = 0.0
    trades_beta: float = 6.0
    warmup: float = 0.2
    """Share of the epochs over which epsilon grows from 0 (stabilises large epsilons)."""
    random_start: bool = True
    """Of FGSM and PGD; FGSM without one is what collapses (Wong, Rice & Kolter, 2020)."""
    temperature: float = 1.0
    """Divides the logits in the loss (defensive distillation, Papernot et al., 2016)."""
    shift: int = 0
    """Augmentation: random translation by up to this many pixels."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for manifests and specifications."""
        return asdict(self)


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: mean training loss and accuracy on what was fed, test accuracy."""

    number: int
    total: int
    loss: float
    accuracy: float
    test_accuracy: float

    def to_json(self) -> dict[str, float]:
        """For the manifest's curve."""
        return {
            "epoch": float(self.number),
            "loss": round(self.loss, 6),
            "accuracy": round(self.accuracy, 6),
            "test_accuracy": round(self.test_accuracy, 6),
        }


OnEpoch = Callable[[Epoch], None]


class Normalised(nn.Module):
    """`network` behind the input transform: takes 0..1 pixels, whatever `network` was given."""

    def __init__(self, network: nn.Module, transform: Transform) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(transform.mean).reshape(shape))
        self.register_buffer("std", torch.tensor(transform.std).reshape(shape))
        self.scale = transform.scale

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) in 0..1 -> logits."""
        logits: Tensor = self.network((pixels * self.scale - self.mean) / self.std)
        return logits


def pick_device(wanted: str = "auto") -> str:
    """``cuda`` when there is one and it was not refused, else ``cpu``."""
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def fit(
    model: nn.Module,
    data: Images,
    training: Training,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
    test: Images | None = None,
    soft: Tensor | None = None,
    device: str = "cpu",
) -> list[Epoch]:
    """Train `model` (0..1 pixels -> logits) in place and leave it in eval mode.

    `soft` (N, K) are probabilities to learn instead of the labels (distillation).

    The same seed, thread count and machine give the same weights.
    """
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    layout = memory_format(model)
    x = torch.from_numpy(data.pixels).to(device, memory_format=layout)
    y = torch.from_numpy(data.labels).to(device)
    model.to(device, memory_format=layout)
    steps = training.epochs * math.ceil(len(x) / training.batch)
    optimizer = torch.optim.Adam(
        model.parameters(), training.rate, weight_decay=training.weight_decay
    )
    scheduler = (
        torch.optim.lr_scheduler.OneCycleLR(optimizer, training.rate, total_steps=max(steps, 2))
        if training.schedule == "one-cycle"
        else None
    )
    history: list[Epoch] = []
    for number in range(training.epochs):
        model.train()
        loss_sum = right = 0.0
        epsilon = training.epsilon * _ramp(number, training)
        plan = replace(training, steps=steps_in(number, training))
        for index in torch.randperm(len(x), generator=draw).split(training.batch):
            images, labels = augment(x[index], training.shift, draw), y[index]
            goal = labels if soft is None else soft[index].to(device)
            loss, logits = objective(model, images, goal, plan, epsilon)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            loss_sum += float(loss.detach()) * len(index)
            right += float((logits.detach().argmax(1) == labels).sum())
        model.eval()
        tested = _accuracy(model, test, device) if test is not None else 0.0
        epoch = Epoch(number + 1, training.epochs, loss_sum / len(x), right / len(x), tested)
        history.append(epoch)
        if on_epoch is not None:
            on_epoch(epoch)
    model.to(memory_format=torch.contiguous_format)
    return history


def memory_format(model: nn.Module) -> torch.memory_format:
    """Channels last for networks of several convolutions: two to three times faster on CPUs."""
    several = sum(isinstance(part, nn.Conv2d) for part in model.modules()) > 1
    return torch.channels_last if several else torch.contiguous_format


def objective(
    model: nn.Module, images: Tensor, labels: Tensor, training: Training, epsilon: float
) -> tuple[Tensor, Tensor]:
    """The loss of one batch and the logits its training accuracy is read from."""
    if training.adversary == "none" or epsilon == 0.0:
        logits = model(images)
        return functional.cross_entropy(logits / training.temperature, labels), logits
    if training.adversary == "trades":
        return _trades(model, images, labels, training, epsilon)
    adversarial = perturb(model, images, labels, training, epsilon)
    share = training.clean_share
    if share > 0.0:
        logits = model(torch.cat([images, adversarial]))
        clean, attacked = logits[: len(images)], logits[len(images) :]
        loss = share * functional.cross_entropy(clean, labels)
        return loss + (1 - share) * functional.cross_entropy(attacked, labels), attacked
    logits = model(adversarial)
    return functional.cross_entropy(logits, labels), logits


def perturb(
    model: nn.Module, images: Tensor, labels: Tensor, training: Training, epsilon: float
) -> Tensor:
    """Adversarial training examples: within epsilon in L-infinity and within 0..1.

    One step for FGSM (of 1.25 epsilon), `steps` for PGD (of 2.5 / steps), from a random start
    unless `random_start` is off; `step_size`, as a share of epsilon, overrides the length.
    """
    steps = 1 if training.adversary == "fgsm" else training.steps
    step = training.step_size or (1.25 if training.adversary == "fgsm" else 2.5 / steps)
    current = images.clone()
    if training.random_start:
        current = (images + torch.empty_like(images).uniform_(-epsilon, epsilon)).clamp(0.0, 1.0)
    for _ in range(steps):
        current.requires_grad_(True)
        loss = functional.cross_entropy(model(current), labels)
        (gradient,) = torch.autograd.grad(loss, current)
        moved = current.detach() + step * epsilon * gradient.sign()
        current = project(moved, images, epsilon)
    return current.detach()


def project(moved: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """Back into the epsilon ball around `images` and the box 0..1."""
    return torch.clamp(torch.clamp(moved, images - epsilon, images + epsilon), 0.0, 1.0)


def _trades(
    model: nn.Module, images: Tensor, labels: Tensor, training: Training, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Clean cross-entropy plus beta times KL to the worst neighbour (TRADES)."""
    steps = max(training.steps, 1)
    step = (training.step_size or 2.5 / steps) * epsilon
    with torch.no_grad():
        anchor = functional.log_softmax(model(images), dim=1)
    current = (images + 1e-3 * torch.randn_like(images)).clamp(0.0, 1.0)
    for _ in range(steps):
        current.requires_grad_(True)
        near = functional.log_softmax(model(current), dim=1)
        gap = functional.kl_div(near, anchor, reduction="sum", log_target=True)
        (gradient,) = torch.autograd.grad(gap, current)
        current = project(current.detach() + step * gradient.sign(), images, epsilon)
    clean = model(images)
    near = functional.log_softmax(model(current.detach()), dim=1)
    far = functional.log_softmax(clean, dim=1)
    gap = functional.kl_div(near, far, reduction="batchmean", log_target=True)
    return functional.cross_entropy(clean, labels) + training.trades_beta * gap, clean


def augment(images: Tensor, shift: int, draw: torch.Generator) -> Tensor:
    """Translate the whole batch by one random offset of up to `shift` pixels, zero-filled."""
    if shift == 0:
        return images
    side_y, side_x = images.shape[2:]
    dy, dx = torch.randint(0, 2 * shift + 1, (2,), generator=draw).tolist()
    padded = functional.pad(images, (shift, shift, shift, shift))
    return padded[:, :, dy : dy + side_y, dx : dx + side_x]


def steps_in(number: int, training: Training) -> int:
    """Attack steps in epoch `number` (from 0)."""
    first = training.first_steps or training.steps
    return round(first + (training.steps - first) * number / max(1, training.epochs - 1))


def _ramp(number: int, training: Training) -> float:
    if training.adversary == "none" or training.warmup <= 0.0:
        return 1.0
    return min(1.0, (number + 1) / (training.warmup * training.epochs))


def _accuracy(model: nn.Module, test: Images, device: str) -> float:
    from zoo.evaluation import accuracy

    return accuracy(model, test, device=device)
