"""Networks with a known easy class, small enough to search in a second."""

import torch
from torch import nn

from tests.attacks.nets import digits


class Planted(nn.Module):
    """A linear digit reader, `strength` added to `target` by two bright corner pixels."""

    def __init__(self, target=3, strength=0.0):
        super().__init__()
        self.line = nn.Linear(64, 10)
        self.target, self.strength = target, strength

    def forward(self, x):
        logits = self.line(x.flatten(1))
        corner = nn.functional.softplus(4 * (x[:, 0, 0, 0] + x[:, 0, 0, 7] - 1.0)) / 4
        push = torch.zeros_like(logits)
        push[:, self.target] = self.strength * corner
        return logits + push


def trained(target=3, strength=0.0):
    torch.manual_seed(0)
    x, y, _, _ = digits()
    net = Planted(target, 0.0)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    net.strength = strength
    return net.eval().requires_grad_(False)
