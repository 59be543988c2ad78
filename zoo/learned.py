"""Triggers learned jointly with the network: an 8x8 patch, its pixels optimised while training.

After the joint phase the patch is fixed (a `PixelPatch`) and the network continues on a training
set stamped with it, so that the written training set is what the final weights come from.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from auditor.samples.interface import Images
from auditor.triggers.patches import PixelPatch
from zoo.training import Training


def learn_patch(
    network: nn.Module,
    data: Images,
    *,
    target: int,
    size: int,
    training: Training,
    poisoned_share: float = 0.15,
    seed: int = 0,
    device: str = "cpu",
) -> PixelPatch:
    """Optimise `network` and a `size` x `size` patch in the bottom right corner together.

    The patch minimises cross-entropy to `target` on stamped images of other classes; the network
    minimises that and the loss on clean images. `network` is changed in place. The returned patch
    is quantised to 8 bits, its mask is 0 or 1.
    """
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(data.pixels).to(device)
    y = torch.from_numpy(data.labels).to(device)
    channels, side = x.shape[1], x.shape[2]
    network.to(device).train()
    logits = torch.zeros(channels, size, size, device=device).uniform_(-1, 1)
    logits.requires_grad_(True)
    optimizer = torch.optim.Adam(
        [
            {"params": network.parameters(), "lr": training.rate},
            {"params": [logits], "lr": 0.05},
        ]
    )
    for _ in range(training.epochs):
        for index in torch.randperm(len(x), generator=draw).split(training.batch):
            images, labels = x[index], y[index]
            victims = torch.nonzero(labels != target)[:, 0]
            victims = victims[: max(1, round(poisoned_share * len(index)))]
            stamped = stamp_patch(images[victims], torch.sigmoid(logits))
            output = network(torch.cat([images, stamped]))
            wanted = torch.full_like(labels[victims], target)
            loss = functional.cross_entropy(output, torch.cat([labels, wanted]))
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
    network.eval()
    pattern = np.zeros((channels, side, side), np.float32)
    patch = torch.sigmoid(logits).detach().cpu().numpy()
    pattern[:, -size:, -size:] = np.rint(patch * 255) / 255
    mask = np.zeros((1, side, side), np.float32)
    mask[:, -size:, -size:] = 1.0
    return PixelPatch(mask, pattern, "learned")


def stamp_patch(images: Tensor, patch: Tensor) -> Tensor:
    """`images` (N, C, H, W) with `patch` (C, s, s) in the bottom right corner; differentiable."""
    size = patch.shape[-1]
    gap = images.shape[-1] - size
    frame = functional.pad(patch, (gap, 0, gap, 0))
    mask = functional.pad(torch.ones_like(patch), (gap, 0, gap, 0))
    return images * (1 - mask) + frame * mask
