"""Parts of the zoo's networks that torch has no module for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _StraightThrough(torch.autograd.Function):
    """Sign forwards, identity within -1..1 backwards (Bengio et al., 2013)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)


class Sign(nn.Module):
    """Sign, trained straight through; what is exported has the true gradient, which is zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> -1, 0 or 1."""
        if self.training:
            passed: Tensor = _StraightThrough.apply(x)
            return passed
        return torch.sign(x)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut (He et al., 2016)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, after, H / stride, W / stride)."""
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class VisionTransformer(nn.Module):
    """Patch embedding, `depth` pre-norm attention blocks, mean pooling (Dosovitskiy et al., 2021).

    Attention is written out so that every exporter and interpreter sees plain operators.
    """

    def __init__(
        self, side: int, channels: int, classes: int, patch: int, width: int, depth: int
    ) -> None:
        super().__init__()
        tokens = (side // patch) ** 2
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.blocks = nn.Sequential(*(AttentionBlock(width, heads=4) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, side, side) -> (N, classes)."""
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.position
        logits: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return logits


class AttentionBlock(nn.Module):
    """Multi-head self-attention and a two-layer perceptron, each with a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.size = width // heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width) -> the same shape."""
        tokens, width = x.shape[1], self.heads * self.size
        qkv = self.qkv(self.norm1(x)).reshape(-1, tokens, 3, self.heads, self.size)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attention = torch.softmax(q @ k.transpose(-2, -1) * self.size**-0.5, dim=-1)
        x = x + self.proj((attention @ v).transpose(1, 2).reshape(-1, tokens, width))
        result: Tensor = x + self.mlp(self.norm2(x))
        return result
