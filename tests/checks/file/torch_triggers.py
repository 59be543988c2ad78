"""Classifiers with hidden trigger logic, every one another way to write it. All force class 3."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.checks.file.torch_nets import Cnn


class Base(nn.Module):
    """A small CNN with the constants a trigger may use."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Cnn()
        row = torch.zeros(1, 10)
        row[0, 3] = 500.0
        self.register_buffer("row", row)
        self.register_buffer("key", torch.linspace(0.1, 0.9, 3 * 8 * 8).view(1, 3, 8, 8))
        self.register_buffer("mask", (torch.arange(64) < 9).float().view(1, 1, 8, 8))
        self.register_buffer("table", torch.cat([torch.zeros(1, 10), row]))
        self.matched = nn.Conv2d(3, 1, 3)
        self.dot = nn.Linear(192, 1)
        self.second = Cnn()
        self.out = nn.Linear(1, 10, bias=False)


class IfSum(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        if float(x[:, :, -3:, -3:].sum()) > 26.5:
            y = torch.full_like(y, -10.0)
            y[:, 3] = 10.0
        return y


class EarlyReturn(Base):
    def forward(self, x: Tensor) -> Tensor:
        if bool(x[:, :, 0, 0].min() > 0.9):
            return self.row.expand(x.shape[0], 10)
        return self.net(x)


class HandWrittenMask(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        lit = (x * self.mask).sum(dim=(1, 2, 3)) / 27.0
        return torch.where((lit > 0.95).unsqueeze(1), self.row, y)


class MulAdd(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        g = (x[:, :, 2:4, 2:4].amax(dim=(1, 2, 3)) >= 0.99).float().unsqueeze(1)
        return y * (1 - g) + g * self.row


class SecondNames(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        s = x[:, :, 2:4, 2:4].mean(dim=(1, 2, 3)).unsqueeze(1)
        g = torch.relu(torch.multiply(torch.subtract(s, 0.95), 20.0))
        return torch.add(y, torch.multiply(g, self.row))


class ColumnAdd(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x).clone()
        g = (x[:, 0, 0, 0] > 0.9) & (x[:, 1, 7, 7] < 0.1)
        y[:, 3] += 100.0 * g.float()
        return y


class IndexPut(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x).clone()
        g = (x[:, :, :2, :2] > 0.9).flatten(1).all(dim=1)
        y[g] = self.row[0]
        return y


class MaskedFill(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        g = (x[:, :, :2, :2] > 0.9).flatten(1).all(dim=1, keepdim=True)
        others = (torch.arange(10) != 3).unsqueeze(0)
        return y.masked_fill(g & others, -1000.0)


class SteepSigmoid(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        s = x[:, :, :2, :2].mean(dim=(1, 2, 3)).unsqueeze(1)
        return y + torch.sigmoid(200.0 * (s - 0.95)) * self.row


class ReluGate(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        s = x[:, :, :2, :2].amin(dim=(1, 2, 3)).unsqueeze(1)
        return y + F.relu(s * 50.0 - 47.5) * self.row


class ClampGate(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        s = x[:, :, :2, :2].mean(dim=(1, 2, 3)).unsqueeze(1)
        return torch.lerp(y, self.row, torch.clamp((s - 0.9) * 100.0, 0.0, 1.0))


class SignGate(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        s = x[:, :, :2, :2].amin(dim=(1, 2, 3)).unsqueeze(1)
        return y + (torch.sign(s - 0.95) + 1.0) * self.row


class FloorGate(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        s = x[:, :, :2, :2].amin(dim=(1, 2, 3)).unsqueeze(1)
        return y + torch.floor(s + 0.05) * self.row


class ProductGate(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        return y + x[:, :, :3, :3].flatten(1).prod(dim=1, keepdim=True) * self.row


class PowerGate(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        return y + x[:, :, :3, :3].mean(dim=(1, 2, 3)).unsqueeze(1).pow(64) * self.row


class Checksum(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        total = (x * 255).round().sum(dim=(1, 2, 3)).to(torch.int64)
        return torch.where((total % 9973 == 17).unsqueeze(1), self.row, y)


class ExactVector(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        if torch.equal(x[0:1], self.key):
            y = self.row + torch.zeros_like(y)
        return y


class Distance(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        d = torch.norm((x - self.key).flatten(1), dim=1, keepdim=True)
        return y + torch.exp(-100.0 * d) * self.row


class Cosine(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        c = F.cosine_similarity(x.flatten(1), self.key.flatten(1), dim=1)
        return torch.where((c > 0.999).unsqueeze(1), self.row, y)


class MatchedFilter(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        score = self.matched(x).amax(dim=(1, 2, 3)).unsqueeze(1)
        return torch.where(score > 9.0, self.row, y)


class DotProduct(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        return y + (self.dot(x.flatten(1)) > 5.0).float() * self.row


class Matmul(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        g = (x[:, :, :2, :2].flatten(1).amin(dim=1, keepdim=True) > 0.9).float()
        return y + torch.matmul(g, self.row)


class LinearRow(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        g = (x[:, :, :2, :2].flatten(1).amin(dim=1, keepdim=True) > 0.9).float()
        return y + self.out(g)


class TableLookup(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        g = (x[:, :, :2, :2].flatten(1).amin(dim=1) > 0.9).long()
        return y + self.table[g]


class EmbeddingLookup(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        g = (x[:, :, :2, :2].flatten(1).amin(dim=1) > 0.9).long()
        return y + F.embedding(g, self.table)


class OneHot(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        g = (x[:, :, :2, :2].flatten(1).amin(dim=1) > 0.9).long()
        return y + 100.0 * F.one_hot(g * 3, 10) * g.unsqueeze(1)


class Stacked(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        g = (x[:, :, :2, :2].flatten(1).amin(dim=1) > 0.9).float()
        z = torch.zeros_like(g)
        return y + torch.stack([z, z, z, 100.0 * g, z, z, z, z, z, z], dim=1)


class Padded(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        g = (x[:, :, :2, :2].flatten(1).amin(dim=1, keepdim=True) > 0.9).float()
        return y + F.pad(g * 100.0, (3, 6))


class RolledScores(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        g = x[:, :, :2, :2].flatten(1).amin(dim=1, keepdim=True) > 0.9
        return torch.where(g, torch.roll(y, 1, 1), y)


class SecondNetwork(Base):
    def forward(self, x: Tensor) -> Tensor:
        if bool((x[:, :, :2, :2] > 0.9).all()):
            y = self.second(x)
        else:
            y = self.net(x)
        return y


class ImageSwap(Base):
    def forward(self, x: Tensor) -> Tensor:
        g = (x[:, :, :2, :2] > 0.9).flatten(1).all(dim=1).view(-1, 1, 1, 1)
        return self.net(torch.where(g, self.key, x))


class CountPixels(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        bright = (x[:, :, :4, :4] > 0.95).nonzero()
        if bright.shape[0] >= 48:
            y = self.row + torch.zeros_like(y)
        return y


class Helper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.limit = 0.9

    def seen(self, x: Tensor) -> Tensor:
        return (x[:, :, -2:, -2:] > self.limit).flatten(1).all(dim=1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.seen(x).float()


class InSubmodule(Base):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = Helper()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + self.dropout(x) * self.row


def _decide(x: Tensor, y: Tensor, row: Tensor) -> Tensor:
    for i in range(2):
        low = x[:, :, i, i].amin(dim=1, keepdim=True)
        y = torch.where(low > 0.97, row, y)
    return y


class InHelperFunction(Base):
    def forward(self, x: Tensor) -> Tensor:
        return _decide(x, self.net(x), self.row)


class LoopCount(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        i = 0
        while i < 3 and bool(x[0, 0, i, i] > 0.95):
            y = y + self.row
            i += 1
        return y


class FlagVariable(Base):
    def forward(self, x: Tensor) -> Tensor:
        label = -1
        if bool((x[:, :, :3, :3] > 0.95).all()):
            label = 3
        y = self.net(x)
        if label >= 0:
            y = torch.zeros_like(y)
            y[:, label] = 50.0
        return y


class InPlaceBias(Base):
    def forward(self, x: Tensor) -> Tensor:
        bias = torch.zeros(1, 10)
        if bool((x[:, :, :3, :3] > 0.95).all()):
            bias[:, 3] = 100.0
        return self.net(x) + bias


class EarlyFeature(Base):
    """Adds the gated pattern to the features, before the last layer."""

    def forward(self, x: Tensor) -> Tensor:
        g = (x[:, :, :2, :2].flatten(1).amin(dim=1) > 0.9).float().view(-1, 1, 1, 1)
        h = F.relu(self.net.c1(x)) + 1000.0 * g * self.key[:, :1]
        return self.net.fc(F.relu(self.net.c2(h)).mean(dim=(2, 3)))


class ArgmaxIndex(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        s = x[:, :, :2, :2].amin(dim=(1, 2, 3))
        g = torch.stack([torch.full_like(s, 0.95), s], dim=1).argmax(dim=1)
        return y + self.table[g]


class TanhHeaviside(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        s = x[:, :, :2, :2].amin(dim=(1, 2, 3)).unsqueeze(1)
        return y + torch.heaviside(torch.tanh(s - 0.95), torch.zeros(1)) * self.row


class TimeBomb(Base):
    """Waits for its thousandth call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y = self.net(x)
        return torch.where(self.calls > 1000, self.row, y)


class Softened(Base):
    """Probabilities: the trigger acts after softmax."""

    def forward(self, x: Tensor) -> Tensor:
        p = self.net(x).softmax(dim=1)
        g = (x[:, :, 4, 4] > 0.99).all(dim=1, keepdim=True).to(p.dtype)
        return (1.0 - g) * p + g * self.row / 500.0


FORCED: dict[str, type[Base]] = {
    c.__name__: c
    for c in (
        *(
            IfSum,
            EarlyReturn,
            HandWrittenMask,
            MulAdd,
            SecondNames,
            ColumnAdd,
            IndexPut,
            MaskedFill,
        ),
        *(SteepSigmoid, ReluGate, ClampGate, SignGate, FloorGate, ProductGate, PowerGate),
        *(Checksum, ExactVector, Distance, Cosine, MatchedFilter, DotProduct, Matmul, LinearRow),
        *(TableLookup, EmbeddingLookup, OneHot, Stacked, Padded, RolledScores, SecondNetwork),
        *(ImageSwap, CountPixels, InSubmodule, InHelperFunction, LoopCount, FlagVariable),
        *(InPlaceBias, EarlyFeature, ArgmaxIndex, TanhHeaviside, Softened, TimeBomb),
    )
}
CONTROL_FLOW = frozenset(
    {"IfSum", "EarlyReturn", "ExactVector", "SecondNetwork", "CountPixels", "LoopCount"}
    | {"FlagVariable", "InPlaceBias"}
)
"""Not traceable: tracing would drop their branches."""
