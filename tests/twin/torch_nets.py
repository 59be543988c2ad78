"""Small networks that between them have what TorchScript graphs hold, and how each ends."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Inplace(nn.Module):
    """In-place first operator, view on the activations, log-softmax tail."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.bn = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6 * 49, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.sub(0.5).mul_(2.0)
        x = self.relu(self.bn(self.conv(x)))
        return torch.log_softmax(self.fc(x.view(x.shape[0], -1)), 1)


class Blocks(nn.Module):
    """Layers inside `if` and `for`, a dict as output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.step = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if x.dim() == 4:
            x = torch.relu(self.stem(x))
        for _ in range(3):
            x = torch.relu(self.step(x))
        pooled = x.mean([2, 3])
        kept: list[Tensor] = []
        kept.append(pooled)
        return {"scores": self.fc(torch.cat(kept, 1)), "pooled": pooled}


class Encoder(nn.Module):
    """Patches, a TransformerEncoderLayer and a class head."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 16, 4, stride=4)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.layer(tokens)).mean(1))


class Matmul(nn.Module):
    """Weights used as old exporters do: addmm of a transpose, and a bare matmul."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(12, 8) * 0.2)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(torch.matmul(x, self.w))
        return torch.addmm(self.fc.bias, y, self.fc.weight.t()).sigmoid()


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 9, 6)
    )


def mlp() -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(49, 16), nn.GELU(), nn.Dropout(0.3), nn.Linear(16, 4)]
    return nn.Sequential(*layers, nn.Softmax(1))


NETS = {
    "cnn": (cnn, (1, 8, 8), "logits"),
    "mlp": (mlp, (1, 7, 7), "softmax"),
    "bn inplace": (Inplace, (3, 16, 16), "log-softmax"),
    "blocks": (Blocks, (1, 12, 12), "logits"),
    "encoder": (Encoder, (1, 16, 16), "logits"),
    "matmul": (Matmul, (12,), "sigmoid"),
}


def make(name: str) -> tuple[nn.Module, Tensor, str]:
    torch.manual_seed(1)
    build, shape, tail = NETS[name]
    net = build()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.eval(), torch.rand(3, *shape), tail
