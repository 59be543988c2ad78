"""Honest TorchScript modules of many kinds: the rules must stay quiet on them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Cnn(nn.Module):
    def __init__(self, channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(channels, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.c2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(F.relu(self.bn(self.c1(x))), 2)
        y = F.relu(self.c2(y))
        return self.fc(y.mean(dim=(2, 3)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.se = nn.Linear(8, 8)
        self.f = nn.Linear(8, 10)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.hardswish(self.a(x))
        h = h + F.relu(self.b(h))
        gate = torch.sigmoid(self.se(h.mean(dim=(2, 3))))
        h = h * gate.unsqueeze(-1).unsqueeze(-1)
        return F.log_softmax(self.f(self.drop(h.mean(dim=(2, 3)))), dim=1)


class Normalised(nn.Module):
    """Normalises, scales and clamps its input; notices 0..255 by its maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.4]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.2, 0.2]).view(1, 3, 1, 1))
        self.net = Cnn()

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 3:
            x = x.unsqueeze(0)
        if x.dim() != 4:
            raise ValueError("expected a batch of images")
        if bool(x.max() > 1.5):
            x = x / 255.0
        x = torch.clamp(x, 0.0, 1.0)
        x = torch.where(torch.isnan(x), torch.zeros_like(x), x)
        return self.net((x - self.mean) / self.std)


class Masked(nn.Module):
    """Token ids with a padding mask and masked mean."""

    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Embedding(50, 16, padding_idx=0)
        self.l = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.o = nn.Linear(16, 4)

    def forward(self, ids: Tensor) -> Tensor:
        mask = ids == 0
        h = self.l(self.e(ids), src_key_padding_mask=mask)
        keep = (~mask).to(h.dtype)
        pooled = (h * keep.unsqueeze(-1)).sum(dim=1) / keep.sum(dim=1, keepdim=True).clamp(min=1.0)
        return self.o(pooled)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Conv2d(3, 16, 4, stride=4)
        self.cls = nn.Parameter(torch.zeros(1, 1, 16))
        self.pos = nn.Parameter(torch.zeros(1, 5, 16))
        self.l = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.o = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        t = self.p(x).flatten(2).transpose(1, 2)
        t = torch.cat([self.cls.expand(x.shape[0], -1, -1), t], dim=1) + self.pos
        return self.o(self.l(t)[:, 0])


class Recurrent(nn.Module):
    def __init__(self, kind: str = "lstm") -> None:
        super().__init__()
        self.r = nn.LSTM(8, 6, batch_first=True)
        self.g = nn.GRU(6, 6, batch_first=True)
        self.f = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.r(x)
        h, _ = self.g(h)
        return self.f(h[:, -1])


class Experts(nn.Module):
    """Soft and hard mixtures of experts, routed by learned weights."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(12, 2)
        self.a = nn.Linear(12, 4)
        self.b = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        weights = torch.softmax(self.router(flat), dim=1)
        soft = weights[:, :1] * self.a(flat) + weights[:, 1:] * self.b(flat)
        first = (weights.argmax(dim=1) == 0).unsqueeze(1)
        return soft + torch.where(first, self.a(flat), self.b(flat))


class EarlyExit(nn.Module):
    """Answers early when sure, abstains when unsure: judges its own scores."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3)
        self.h1 = nn.Linear(8, 5)
        self.b = nn.Conv2d(8, 8, 3)
        self.h2 = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        f = F.relu(self.a(x))
        early = self.h1(f.mean(dim=(2, 3)))
        if bool(early.softmax(dim=1).max() > 0.9):
            return early
        out = self.h2(F.relu(self.b(f)).mean(dim=(2, 3)))
        sure = out.softmax(dim=1).amax(dim=1, keepdim=True) > 0.1
        return torch.where(sure, out, torch.zeros_like(out))


class HandMadeActivations(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f1 = nn.Linear(20, 16)
        self.f2 = nn.Linear(16, 5)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.f1((x > 0.5).float() * x)
        h = torch.where(h > 0, h, 0.1 * (torch.exp(h) - 1))
        h = h * (h > -0.05).float()
        y = self.f2(h).clamp(-30.0, 30.0)
        return torch.where(y > 0.5, y, torch.zeros_like(y)) * self.scale


class TrainingNoise(nn.Module):
    """Noise and stochastic depth in training, test-time flip, loops over layers."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3, padding=1)
        self.layers = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)])
        self.f = nn.Linear(4, 5)

    def _score(self, x: Tensor) -> Tensor:
        h = F.elu(self.c(x))
        for layer in self.layers:
            r = F.gelu(layer(h))
            if self.training:
                r = r * torch.empty([h.shape[0], 1, 1, 1]).bernoulli_(0.8)
            h = h + r
        return self.f(h.amax(dim=(2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + 0.1 * torch.randn_like(x)
        scores = self._score(x)
        return 0.5 * (scores + self._score(torch.flip(x, [3])))


class Wide(nn.Module):
    """Concatenates hand-made statistics of the image to its features, before learned layers."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3)
        self.f = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        bright = x.mean(dim=(1, 2, 3)).unsqueeze(1)
        dark = (x.amin(dim=(1, 2, 3)) < 0.1).float().unsqueeze(1)
        return self.f(torch.cat([F.relu(self.c(x)).mean(dim=(2, 3)), bright, dark], dim=1))


class Centred(nn.Module):
    """Per-image contrast normalisation and a crop of the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Cnn()

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        x = (x - mean) / (x.std(dim=(1, 2, 3), keepdim=True) + 1e-5)
        x = x[:, :, 1:-1, 1:-1]
        gray = 0.3 * x[:, 0] + 0.6 * x[:, 1] + 0.1 * x[:, 2]
        edges = gray.unsqueeze(1) - F.avg_pool2d(gray.unsqueeze(1), 3, 1, 1)
        return self.net(torch.cat([x[:, :2], edges], dim=1))


class Checks(nn.Module):
    """Raises on strange inputs and returns a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Cnn()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if not bool(torch.isfinite(x).all()):
            raise ValueError("the image holds NaN")
        assert x.shape[1] == 3, f"expected 3 channels, got {x.shape[1]}"
        logits = self.net(x)
        return {"logits": logits, "probabilities": logits.softmax(dim=1)}


IMAGE = (2, 3, 8, 8)
HONEST: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cnn": (Cnn, IMAGE),
    "residual": (Residual, IMAGE),
    "normalised": (Normalised, IMAGE),
    "attention": (Attention, IMAGE),
    "recurrent": (Recurrent, (2, 5, 8)),
    "experts": (Experts, (2, 12)),
    "early_exit": (EarlyExit, IMAGE),
    "activations": (HandMadeActivations, (2, 20)),
    "training_noise": (TrainingNoise, IMAGE),
    "wide": (Wide, IMAGE),
    "centred": (Centred, IMAGE),
    "checks": (Checks, IMAGE),
    "masked": (Masked, (2, 6)),
}
FORMS = ("scripted", "traced", "frozen", "training")


def save(net: nn.Module, shape: tuple[int, ...], form: str, path: Path) -> Path:
    """Save `net` as TorchScript in one of `FORMS`."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = net.train() if form == "training" else net.eval()
        ids = isinstance(net, Masked)
        x = torch.randint(0, 9, shape) if ids else torch.rand(shape)
        if form == "traced":
            module = torch.jit.trace(net, x, check_trace=False, strict=False)
        else:
            module = torch.jit.script(net)
        if form == "frozen":
            module = torch.jit.freeze(module)
        torch.jit.save(module, str(path))
    return path


def export(net: nn.Module, shape: tuple[int, ...], path: Path) -> Path:
    """Save `net` as an exported program."""
    torch.manual_seed(0)
    x = torch.randint(0, 9, shape) if isinstance(net, Masked) else torch.rand(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # recurrent nets warn about their flat weights
        torch.export.save(torch.export.export(net.eval(), (x,)), path)
    return path
