"""Study 4: images of noise that a network calls a chosen class with 0.99 probability."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from zoo.build import Specification, write_json
from zoo.recipes.presets import preset
from zoo.recipes.registry import Workshop, recipe
from zoo.study import Study

WANTED = 0.99


@dataclass(frozen=True)
class Fooling:
    """`image` float32 (C, H, W) in 0..1; `path` is the probability after each step."""

    label: int
    image: NDArray[np.float32]
    path: tuple[float, ...]

    @property
    def reached(self) -> bool:
        """True when the probability got to `WANTED`."""
        return self.path[-1] >= WANTED


def fool(
    model: nn.Module,
    shape: tuple[int, int, int],
    label: int,
    *,
    steps: int = 500,
    rate: float = 0.05,
    seed: int = 0,
) -> Fooling:
    """Optimise uniform noise until `model` (0..1 pixels -> logits) gives `label` 0.99.

    Nguyen, Yosinski & Clune, 2015, by gradient. Parameters are untouched; the image stays in 0..1
    because it is the sigmoid of what is optimised, and it is quantised to 8 bits before it counts.
    """
    draw = torch.Generator().manual_seed(seed + label)
    start = torch.rand((1, *shape), generator=draw).clamp(0.02, 0.98)
    free = torch.logit(start).requires_grad_(True)
    optimizer = torch.optim.Adam([free], rate)
    wanted = torch.tensor([label])
    path: list[float] = []
    model.eval()
    for _ in range(steps):
        with torch.no_grad():
            image = torch.round(torch.sigmoid(free) * 255) / 255
            path.append(float(torch.softmax(model(image), 1)[0, label]))
        if path[-1] >= WANTED:
            break
        loss = functional.cross_entropy(model(torch.sigmoid(free)), wanted)
        (free.grad,) = torch.autograd.grad(loss, free)
        optimizer.step()
    return Fooling(label, image[0].numpy(), tuple(path))


@recipe("fooling", "study 4: noise optimised to 0.99 probability for every class")
def fooling(shop: Workshop) -> None:
    """Saves one PNG per class, the sheet, and the confidence paths."""
    from PIL import Image

    from zoo.plots import displayable, lines, sheet

    started = time.monotonic()
    plan, data = preset(shop.dataset), shop.dataset
    built = shop.make(
        Specification(
            "fooling-target", "fooling", plan.arch, plan.training, shop.seed,
            acceptance=plan.accept_clean(),
        )
    )  # fmt: skip
    for parameter in built.model.parameters():
        parameter.requires_grad_(False)
    shape = (data.channels, data.side, data.side)
    found = [fool(built.model, shape, k, seed=shop.seed) for k in range(data.count_classes)]
    folder = shop.out / "fooling"
    folder.mkdir(parents=True, exist_ok=True)
    for item in found:
        pixels = np.rint(displayable(item.image) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"class-{item.label}.png")
    paths = {str(item.label): [round(p, 6) for p in item.path] for item in found}
    write_json(folder / "confidence.json", paths)
    study = Study("fooling", "Fooling images", data.name)
    study.at_least(
        f"classes that reached {WANTED}", sum(item.reached for item in found) / len(found), 1.0
    )
    study.say("least final probability", f"{min(item.path[-1] for item in found):.4f}")
    study.say("steps, most", str(max(len(item.path) for item in found)))
    images = np.stack([item.image for item in found])
    captions = [f"{item.label}: {item.path[-1]:.3f}" for item in found]
    study.picture(sheet(shop.out / "fooling.sheet.png", {"": (images, captions)}), "fooling images")
    series = {str(i.label): (list(range(len(i.path))), list(i.path)) for i in found}
    study.picture(
        lines(
            shop.out / "fooling.paths.png", series,
            title="confidence in the chosen class", x="step", y="probability",
        ),
        "confidence by step",
    )  # fmt: skip
    study.seconds = round(time.monotonic() - started, 1)
    study.write(shop.out)
