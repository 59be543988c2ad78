"""What a trained network does: accuracy, attack success, robustness, stealth of its trigger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from auditor.manifest import Stealth
from auditor.samples.interface import Images
from auditor.triggers.interface import Pixels
from zoo.poisoning import Attack, poisoned_label, quantise, victims
from zoo.training import Training, perturb, project

BATCH = 1000


def predict(model: nn.Module, pixels: Pixels, *, device: str = "cpu") -> NDArray[np.int64]:
    """Predicted classes (N,) of 0..1 `pixels`, in eval mode and without gradients."""
    return logits(model, pixels, device=device).argmax(1) if len(pixels) else np.empty(0, np.int64)


def logits(model: nn.Module, pixels: Pixels, *, device: str = "cpu") -> NDArray[np.float32]:
    """Outputs (N, K) for 0..1 `pixels` (at least one), in eval mode and without gradients."""
    model.eval()
    with torch.no_grad():
        parts = [
            model(torch.from_numpy(pixels[start : start + BATCH]).to(device)).cpu()
            for start in range(0, len(pixels), BATCH)
        ]
    return torch.cat(parts).numpy()


def accuracy(model: nn.Module, images: Images, *, device: str = "cpu") -> float:
    """Share of `images` classified as labelled."""
    return float((predict(model, images.pixels, device=device) == images.labels).mean())


def confusion(
    model: nn.Module, images: Images, classes: int, *, device: str = "cpu"
) -> NDArray[np.int64]:
    """Counts (classes, classes): row = label, column = prediction."""
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (images.labels, predict(model, images.pixels, device=device)), 1)
    return table


def attack_success(
    model: nn.Module, test: Images, attack: Attack, classes: int, *, device: str = "cpu"
) -> tuple[float, ...]:
    """ASR per trigger on the images that can show it (never those of the target class).

    Triggered test images are quantised to 8 bits like the training ones.
    """
    rates: list[float] = []
    for which, trigger in enumerate(attack.triggers):
        shown = victims(attack, which, test.labels)
        pixels = quantise(trigger.apply(test.pixels[shown]))
        wanted = poisoned_label(attack, which, test.labels[shown], classes)
        rates.append(float((predict(model, pixels, device=device) == wanted).mean()))
    return tuple(rates)


def adversarial_pixels(
    model: nn.Module,
    images: Images,
    epsilon: float,
    *,
    steps: int = 1,
    restarts: int = 1,
    seed: int = 0,
    device: str = "cpu",
) -> Pixels:
    """The strongest found perturbation of each image: FGSM for one step, PGD for more.

    FGSM (Goodfellow et al., 2015) starts at the image and moves by epsilon; PGD starts at random.
    An image broken by one restart is kept from it.
    """
    torch.manual_seed(seed)
    model.eval()
    result: list[NDArray[np.float32]] = []
    plan = Training(adversary="pgd", steps=steps)
    for start in range(0, len(images), BATCH):
        x = torch.from_numpy(images.pixels[start : start + BATCH]).to(device)
        y = torch.from_numpy(images.labels[start : start + BATCH]).to(device)
        best = x.clone()
        for _ in range(restarts):
            found = (
                _fgsm(model, x, y, epsilon) if steps == 1 else perturb(model, x, y, plan, epsilon)
            )
            with torch.no_grad():
                standing = model(best).argmax(1) == y
            best[standing] = found[standing]
        result.append(best.cpu().numpy())
    return np.concatenate(result)


def robust_accuracy(
    model: nn.Module,
    images: Images,
    epsilon: float,
    *,
    steps: int = 1,
    restarts: int = 1,
    seed: int = 0,
    device: str = "cpu",
) -> float:
    """Accuracy on `adversarial_pixels`."""
    pixels = adversarial_pixels(
        model, images, epsilon, steps=steps, restarts=restarts, seed=seed, device=device
    )
    return float((predict(model, pixels, device=device) == images.labels).mean())


def stealth(attack: Attack, test: Images, limit: int = 200) -> Stealth:
    """How far triggered images lie from the clean ones; the most visible trigger counts."""
    clean = test.pixels[:limit]
    worst: Stealth | None = None
    for trigger in attack.triggers:
        change = quantise(trigger.apply(clean)) - clean
        flat = np.abs(change).reshape(len(clean), -1)
        found = Stealth(
            linf=float(flat.max(1).mean()),
            l2=float(np.sqrt((flat**2).sum(1)).mean()),
            ssim=float(np.mean(ssim(clean, clean + change))),
        )
        worst = found if worst is None or found.l2 > worst.l2 else worst
    assert worst is not None
    return worst


def ssim(first: Pixels, second: Pixels, window: int = 7) -> NDArray[np.float64]:
    """Structural similarity per image, uniform window (Wang et al., 2004), pixels in 0..1."""
    from scipy.ndimage import uniform_filter

    size = (1, 1, min(window, first.shape[2]), min(window, first.shape[3]))
    a, b = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = uniform_filter(a, size), uniform_filter(b, size)
    var_a = uniform_filter(a * a, size) - mean_a**2
    var_b = uniform_filter(b * b, size) - mean_b**2
    cov = uniform_filter(a * b, size) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    score /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    result: NDArray[np.float64] = score.mean(axis=(1, 2, 3))
    return result


def per_class_recall(table: NDArray[np.int64]) -> list[float]:
    """Recall per class of a confusion table; a class without samples counts 0."""
    totals: Sequence[int] = table.sum(1).tolist()
    return [
        float(table[label, label] / total) if total else 0.0 for label, total in enumerate(totals)
    ]


def _fgsm(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epsilon: float) -> torch.Tensor:
    x = x.clone().requires_grad_(True)
    loss = nn.functional.cross_entropy(model(x), y)
    (gradient,) = torch.autograd.grad(loss, x)
    return project(x.detach() + epsilon * gradient.sign(), x.detach(), epsilon)
