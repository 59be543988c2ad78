"""Small nets trained in seconds on scikit-learn's digits (8 x 8), for attack and bound tests."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.sign(x)

    @staticmethod
    def backward(ctx, grad):
        return grad


class TrainableSign(nn.Module):
    def forward(self, x):
        return _StraightThrough.apply(x) if self.training else torch.sign(x)


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


@cache
def digits():
    """(x train, y train, x test, y test) as tensors, float32 (N, 1, 8, 8) in 0..1."""
    data = load_digits()
    x = torch.from_numpy((data.images / 16).astype(np.float32))[:, None]
    y = torch.from_numpy(data.target.astype(np.int64))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return x[:1297], y[:1297], x[1297:], y[1297:]


def build(kind):
    if kind == "mlp":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(),
            nn.Linear(32, 10),
        )  # fmt: skip
    if kind == "sigmoid":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.Sigmoid(), nn.Linear(32, 24), nn.Tanh(),
            nn.Linear(24, 10),
        )  # fmt: skip
    if kind == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip
    if kind == "residual":
        return Residual()
    if kind == "sign":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 96), TrainableSign(), nn.Linear(96, 10)
        )  # fmt: skip
    raise KeyError(kind)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.one = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8 * 4, 10)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        y = self.two(torch.relu(self.norm(self.one(x))))
        x = nn.functional.avg_pool2d(torch.relu(x + y), 2)
        return self.head(x.flatten(1))


@cache
def trained(kind, adversarial=0.0, epochs=25, seed=0):
    """A net of `kind` trained on digits; `adversarial` is the epsilon of PGD-5 training."""
    torch.manual_seed(seed)
    net = build(kind)
    x, y, _, _ = digits()
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(64):
            batch = x[part]
            if adversarial:
                batch = _perturb(net, batch, y[part], adversarial)
            loss = nn.functional.cross_entropy(net(batch), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return net


def _perturb(net, x, y, epsilon):
    moved = (x + torch.empty_like(x).uniform_(-epsilon, epsilon)).clamp(0, 1)
    for _ in range(5):
        moved.requires_grad_(True)
        loss = nn.functional.cross_entropy(net(moved), y)
        (grad,) = torch.autograd.grad(loss, moved)
        moved = moved.detach() + epsilon / 2 * grad.sign()
        moved = (x + (moved - x).clamp(-epsilon, epsilon)).clamp(0, 1)
    return moved.detach()


def fgsm_trained(epsilon, epochs=60, rate=5e-3):
    """A CNN trained on full FGSM steps from the clean image: collapses at large epsilon."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.ReLU(), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    x, y, _, _ = digits()
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(64):
            start = x[part].clone().requires_grad_(True)
            loss = nn.functional.cross_entropy(net(start), y[part])
            (grad,) = torch.autograd.grad(loss, start)
            moved = (x[part] + epsilon * grad.sign()).clamp(0, 1)
            loss = nn.functional.cross_entropy(net(moved), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return net
