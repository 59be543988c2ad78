"""Small networks for the zoo, by name, sized by image side and channels.

``@register("name")`` adds a function ``(side, channels, classes) -> nn.Module``. Every network
takes float32 (N, C, side, side) and returns logits (N, classes).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from zoo.layers import ResidualBlock, Sign, VisionTransformer

Maker = Callable[[int, int, int], nn.Module]
ARCHITECTURES: dict[str, Maker] = {}


def register(name: str) -> Callable[[Maker], Maker]:
    """Add an architecture under `name`; a second one of that name is a mistake."""

    def add(maker: Maker) -> Maker:
        if name in ARCHITECTURES:
            raise ValueError(f"architecture {name!r} is registered twice")
        ARCHITECTURES[name] = maker
        return maker

    return add


def create(name: str, side: int, channels: int, classes: int, *, seed: int) -> nn.Module:
    """A freshly initialised network; the same seed gives the same weights.

    Raises `ValueError` for an unknown name or a side the network cannot take.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {name!r}; choose from {', '.join(ARCHITECTURES)}")
    if side < 8:
        raise ValueError(f"images of side {side} are too small for the zoo: at least 8 pixels")
    torch.manual_seed(seed)
    return ARCHITECTURES[name](side, channels, classes)


def parameter_count(network: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in network.parameters())


def _pooled(side: int, times: int) -> int:
    for _ in range(times):
        side //= 2
    return side


def _dense(side: int, channels: int, classes: int, hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * side * side, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


@register("mlp")
def mlp(side: int, channels: int, classes: int) -> nn.Module:
    """Feed-forward, two hidden layers of 512, ReLU."""
    return _dense(side, channels, classes, 512)


@register("mlp-small")
def mlp_small(side: int, channels: int, classes: int) -> nn.Module:
    """Feed-forward, two hidden layers of 64: under 100k parameters up to 28x28x1."""
    return _dense(side, channels, classes, 64 if channels == 1 else 28)


def _convolutional(
    side: int, channels: int, classes: int, *, width: int, hidden: int, kernel: int
) -> nn.Module:
    size = _pooled(side, 2)
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(2 * width * size * size, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


@register("small-cnn")
def small_cnn(side: int, channels: int, classes: int) -> nn.Module:
    """Conv-Pool-Conv-Pool-Dropout-Dense without batch normalisation, about 100k at 28x28."""
    return _convolutional(
        side, channels, classes, width=16, hidden=56 if side <= 28 else 40, kernel=3
    )


@register("wide-cnn")
def wide_cnn(side: int, channels: int, classes: int) -> nn.Module:
    """The same shape with 32 and 64 maps and 128 hidden units: room for adversarial training."""
    return _convolutional(side, channels, classes, width=32, hidden=128, kernel=5)


@register("strided-cnn")
def strided_cnn(side: int, channels: int, classes: int) -> nn.Module:
    """Two strided 4x4 convolutions and 100 hidden units, 166k at 28x28 (Wong et al., 2020).

    The strides make many PGD steps a batch affordable on a CPU.
    """
    size = _pooled(side, 2)
    return nn.Sequential(
        nn.Conv2d(channels, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * size * size, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )


@register("pixel-cnn")
def pixel_cnn(side: int, channels: int, classes: int) -> nn.Module:
    """Four learned responses per pixel, two strided convolutions, 64 hidden units, 110k at 28x28.

    The 1x1 layer lets adversarial training learn what it learns first on MNIST, thresholds of grey
    values (Madry et al., 2018).
    """
    size = _pooled(side, 2)
    return nn.Sequential(
        nn.Conv2d(channels, 4 * channels, 1),
        nn.ReLU(),
        nn.Conv2d(4 * channels, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * size * size, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


@register("pool-cnn")
def pool_cnn(side: int, channels: int, classes: int) -> nn.Module:
    """Conv-Conv-Pool-Dropout-Dense for adversarial training, 420k at 28x28.

    Four learned responses per pixel first, as in `pixel-cnn`; the stride makes it three times
    faster than `wide-cnn`.
    """
    size = _pooled(side, 2)
    return nn.Sequential(
        nn.Conv2d(channels, 4 * channels, 1),
        nn.ReLU(),
        nn.Conv2d(4 * channels, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(64 * size * size, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


@register("sign-cnn")
def sign_cnn(side: int, channels: int, classes: int) -> nn.Module:
    """One convolution, sign, pooling and two dense layers: no gradient reaches the input."""
    size = _pooled(side, 1)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        Sign(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * size * size, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


@register("bn-cnn")
def bn_cnn(side: int, channels: int, classes: int) -> nn.Module:
    """Three conv-BN-ReLU blocks, global average pooling, one dense layer."""

    def block(before: int, after: int) -> list[nn.Module]:
        return [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]

    return nn.Sequential(
        *block(channels, 16),
        nn.MaxPool2d(2),
        *block(16, 32),
        nn.MaxPool2d(2),
        *block(32, 64),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4, classes),
    )


@register("resnet")
def resnet(side: int, channels: int, classes: int) -> nn.Module:
    """A tiny residual network, three blocks of 16, 32 and 48 maps, under 100k parameters."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        ResidualBlock(16, 16, 1),
        ResidualBlock(16, 32, 2),
        ResidualBlock(32, 48, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, classes),
    )


@register("tiny-vit")
def tiny_vit(side: int, channels: int, classes: int) -> nn.Module:
    """Three attention blocks of width 48; patches of side / 7 or so (4 pixels at 28 and 32)."""
    patch = next(size for size in (4, 2, 1) if side % size == 0 and side // size >= 4)
    return VisionTransformer(side, channels, classes, patch=patch, width=48, depth=3)
