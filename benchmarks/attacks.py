"""Our attacks beside foolbox's, torchattacks' and a bare torch loop, in one run.

    python -m benchmarks.attacks --data-root /path/with/mnist [--n 500] [--rounds 7]

Peers are optional (``pip install --no-deps foolbox eagerpy gitpython requests torchattacks``); a
missing one is named and left out. Rounds are interleaved; times are medians of processor seconds on
one thread, which other programs on the machine hardly change. The model
is a small CNN trained here for `--epochs` on the training images, or a TorchScript file given
by `--model`.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from auditor.attacks.apgd import APGD
from auditor.attacks.pgd import PGD

Runner = Callable[[nn.Module, Tensor, Tensor], Tensor]
EPSILON, STEPS, STEP = 0.1, 40, 0.01 / 0.3 * 0.1


def mnist(root: Path, part: str, limit: int) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28) in 0..1 and labels from the IDX files below `root`."""
    images = gzip.decompress(next(root.rglob(f"mnist/{part}-images*.gz")).read_bytes())
    labels = gzip.decompress(next(root.rglob(f"mnist/{part}-labels*.gz")).read_bytes())
    x = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)[:limit]
    y = np.frombuffer(labels, np.uint8, offset=8)[:limit]
    return torch.from_numpy(x.astype(np.float32) / 255), torch.from_numpy(y.astype(np.int64))


def train(root: Path, epochs: int, adversarial: float) -> nn.Module:
    """A two-layer CNN; `adversarial` is the epsilon of one-step training with random start."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    x, y = mnist(root, "train", 12_000)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(128):
            batch = x[part]
            if adversarial:
                noise = torch.empty_like(batch).uniform_(-adversarial, adversarial)
                start = (batch + noise).clamp(0, 1).requires_grad_(True)
                loss = nn.functional.cross_entropy(net(start), y[part])
                (grad,) = torch.autograd.grad(loss, start)
                moved = start.detach() + 1.25 * adversarial * grad.sign()
                batch = (batch + (moved - batch).clamp(-adversarial, adversarial)).clamp(0, 1)
            loss = nn.functional.cross_entropy(net(batch), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return net


def bare(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """PGD as one would write it in ten lines."""
    z = (x + torch.empty_like(x).uniform_(-EPSILON, EPSILON)).clamp(0, 1)
    for _ in range(STEPS):
        z.requires_grad_(True)
        loss = nn.functional.cross_entropy(net(z), y)
        (grad,) = torch.autograd.grad(loss, z)
        z = z.detach() + STEP * grad.sign()
        z = (x + (z - x).clamp(-EPSILON, EPSILON)).clamp(0, 1)
    return z


def ours(early: bool) -> Runner:
    """Our PGD with the same steps; `early` lets broken samples leave the batch."""
    attack = PGD(EPSILON, steps=STEPS, step_size=STEP, early=early)

    def run(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        # The seed the others' global generator was given: all start from the same noise.
        return attack(net, x, y, seed=torch.initial_seed(), batch=len(x)).images

    return run


def our_apgd(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Our APGD-CE with 50 steps."""
    seed = torch.initial_seed()
    return APGD(EPSILON, steps=50)(net, x, y, seed=seed, batch=len(x)).images


def peers() -> tuple[dict[str, Runner], list[str]]:
    """Peer attacks that can be imported, and the names of those that cannot."""
    found: dict[str, Runner] = {}
    missing = []
    try:
        foolbox = importlib.import_module("foolbox")

        def fool(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
            attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=True)
            return attack(model, x, y, epsilons=EPSILON)[1]

        found["foolbox PGD-40"] = fool
    except ImportError as problem:
        missing.append(f"foolbox ({problem})")
    try:
        torchattacks = importlib.import_module("torchattacks")

        def pgd(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            return torchattacks.PGD(net, eps=EPSILON, alpha=STEP, steps=STEPS)(x, y)

        def apgd(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            return torchattacks.APGD(net, eps=EPSILON, steps=50, loss="ce", n_restarts=1)(x, y)

        found["torchattacks PGD-40"] = pgd
        found["torchattacks APGD-50"] = apgd
    except ImportError as problem:
        missing.append(f"torchattacks ({problem})")
    return found, missing


def main() -> None:
    """Print the table, for an ordinary and an adversarially trained net."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found, missing = peers()
    runners: dict[str, Runner] = {
        "bare loop PGD-40": bare,
        "auditor PGD-40": ours(True),
        "auditor PGD-40, last step": ours(False),
        "auditor APGD-50": our_apgd,
        **found,
    }
    x, y = mnist(options.data_root, "t10k", options.n)
    record = {}
    if options.model:
        models = {str(options.model.name): torch.jit.load(str(options.model)).eval()}
    else:
        models = {
            "ordinary": train(options.data_root, options.epochs, 0.0),
            "adversarially trained": train(options.data_root, options.epochs, EPSILON),
        }
    for title, net in models.items():
        clean = float((net(x).argmax(1) == y).double().mean())
        print(f"\n{title}: clean accuracy {clean:.3f}, epsilon {EPSILON}, n = {len(x)}")
        record[title] = table(net, x, y, runners, options.rounds)
    for name in missing:
        print(f"left out: {name}")
    if options.json:
        options.json.write_text(json.dumps(record, indent=1))


def table(
    net: nn.Module, x: Tensor, y: Tensor, runners: dict[str, Runner], rounds: int
) -> dict[str, dict[str, float]]:
    """Robust accuracy and median seconds of each runner over interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    accuracy: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(rounds):
        for name, run in runners.items():
            torch.manual_seed(number)
            started = time.process_time()
            moved = run(net, x, y)
            seconds[name].append(time.process_time() - started)
            with torch.no_grad():
                assert float((moved - x).abs().max()) <= EPSILON + 1e-5
                accuracy[name].append(float((net(moved).argmax(1) == y).double().mean()))
    base = statistics.median(seconds["bare loop PGD-40"])
    rows = {}
    for name in runners:
        middle = statistics.median(seconds[name])
        share = statistics.median(accuracy[name])
        rows[name] = {"robust accuracy": share, "seconds": middle, "of bare loop": middle / base}
        print(f"  {name:28s} robust accuracy {share:.3f}  {middle:7.2f} s  {middle / base:5.2f} x")
    return rows


if __name__ == "__main__":
    main()
