"""Adversarial examples keep their bounds; the same seed gives the same weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from auditor.manifest import Transform
from zoo.architectures import ARCHITECTURES, create, parameter_count
from zoo.datasets import Dataset
from zoo.evaluation import accuracy, robust_accuracy
from zoo.training import Normalised, Training, augment, fit, objective, perturb, steps_in


@pytest.mark.parametrize("adversary", ["fgsm", "pgd"])
def test_training_perturbations_stay_in_the_ball_and_the_box(adversary: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    images, labels = torch.rand(20, 1, 8, 8), torch.randint(0, 10, (20,))
    plan = Training(adversary=adversary, steps=5)
    moved = perturb(model, images, labels, plan, 0.25)
    assert float((moved - images).abs().max()) <= 0.25 + 1e-6
    assert float(moved.min()) >= 0.0
    assert float(moved.max()) <= 1.0
    before = nn.functional.cross_entropy(model(images), labels)
    assert nn.functional.cross_entropy(model(moved), labels) > before


def test_trades_is_cross_entropy_plus_a_penalty() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    images, labels = torch.rand(20, 1, 8, 8), torch.randint(0, 10, (20,))
    plain, _ = objective(model, images, labels, Training(), 0.0)
    trades, _ = objective(model, images, labels, Training(adversary="trades", steps=5), 0.1)
    assert trades.item() > plain.item()


def test_the_same_seed_gives_the_same_weights(digits: Dataset) -> None:
    small = digits.limited(200, 50)
    weights = []
    for seed in (3, 3, 4):
        model = create("small-cnn", 8, 1, 10, seed=seed)
        fit(model, small.train, Training(2, 50, adversary="fgsm", epsilon=0.1), seed=seed)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (32, 3)])
def test_every_network_takes_the_usual_images(arch: str, side: int, channels: int) -> None:
    network = create(arch, side, channels, 7, seed=0).eval()
    with torch.no_grad():
        assert network(torch.rand(2, channels, side, side)).shape == (2, 7)


@pytest.mark.parametrize("arch", ["small-cnn", "bn-cnn", "resnet", "tiny-vit", "mlp-small"])
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (32, 3)])
def test_population_networks_stay_below_100k(arch: str, side: int, channels: int) -> None:
    assert parameter_count(create(arch, side, channels, 10, seed=0)) <= 100_000


def test_unknown_networks_and_tiny_images_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown architecture"):
        create("alexnet", 28, 1, 10, seed=0)
    with pytest.raises(ValueError, match="too small"):
        create("mlp", 4, 1, 10, seed=0)


def test_the_transform_wrapper_takes_pixels() -> None:
    wrapped = Normalised(nn.Flatten(), Transform(scale=255.0, mean=(10.0,), std=(2.0,)))
    assert torch.allclose(wrapped(torch.ones(1, 1, 2, 2)), torch.full((1, 4), 122.5))


def test_translation_moves_images_and_fills_with_black() -> None:
    images = torch.ones(4, 1, 8, 8)
    draw = torch.Generator().manual_seed(1)
    moved = torch.cat([augment(images, 2, draw) for _ in range(20)])
    assert moved.shape == (80, 1, 8, 8)
    assert float(moved.min()) == 0.0
    assert augment(images, 0, draw) is images


def test_training_learns_and_attacks_lower_accuracy(digits: Dataset) -> None:
    model = create("small-cnn", 8, 1, 10, seed=0)
    history = fit(model, digits.train, Training(8, 64, 4e-3), seed=0, test=digits.test)
    clean = accuracy(model, digits.test)
    assert clean > 0.9
    assert history[-1].loss < history[0].loss
    assert history[-1].test_accuracy == clean
    fgsm = robust_accuracy(model, digits.test, 0.1)
    pgd = robust_accuracy(model, digits.test, 0.1, steps=10)
    assert pgd <= fgsm < clean


def test_attack_steps_grow_from_the_first_epoch_to_the_last() -> None:
    plan = Training(epochs=4, adversary="pgd", first_steps=3, steps=9)
    assert [steps_in(number, plan) for number in range(4)] == [3, 5, 7, 9]
    assert {steps_in(number, replace(plan, first_steps=0)) for number in range(4)} == {9}
