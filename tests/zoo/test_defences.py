"""Learned patches, fooling images, clustering and pruning do what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from auditor.triggers.patches import Square
from zoo.architectures import create
from zoo.datasets import Dataset
from zoo.defences import cluster_class, features, fine_prune
from zoo.evaluation import accuracy, attack_success, ssim
from zoo.learned import learn_patch, stamp_patch
from zoo.poisoning import Attack, poison
from zoo.recipes.fooling import fool
from zoo.training import Training, fit

ATTACK = Attack((Square(size=2),), (6,), rate=0.15)


@pytest.fixture(scope="module")
def backdoored(digits: Dataset) -> nn.Module:
    model = create("small-cnn", 8, 1, 10, seed=0)
    data = poison(digits.train, ATTACK, seed=0).images
    fit(model, data, Training(15, 64, 5e-3), seed=0)
    return model


def test_a_learned_patch_covers_its_corner_and_works(digits: Dataset) -> None:
    model = create("small-cnn", 8, 1, 10, seed=0)
    patch = learn_patch(model, digits.train, target=2, size=3, training=Training(6, 64, 3e-3))
    outside = patch.mask[0].copy()
    assert (outside[-3:, -3:] == 1).all()
    outside[-3:, -3:] = 0
    assert (outside == 0).all()
    assert np.allclose(patch.pattern * 255, np.rint(patch.pattern * 255), atol=1e-4)
    (rate,) = attack_success(model, digits.test, Attack((patch,), (2,)), 10)
    assert rate > 0.9


def test_stamping_in_torch_is_the_trigger_itself() -> None:
    images, patch = torch.rand(3, 1, 8, 8), torch.rand(1, 3, 3)
    stamped = stamp_patch(images, patch)
    assert torch.equal(stamped[:, :, -3:, -3:], patch.expand(3, 1, 3, 3))
    stamped[:, :, -3:, -3:] = images[:, :, -3:, -3:]
    assert torch.equal(stamped, images)


def test_fooling_images_are_valid_and_confident_and_leave_the_network_alone(
    backdoored: nn.Module,
) -> None:
    before = [p.detach().clone() for p in backdoored.parameters()]
    found = fool(backdoored, (1, 8, 8), 4)
    assert found.reached
    assert 0 <= found.image.min() <= found.image.max() <= 1
    with torch.no_grad():
        scores = torch.softmax(backdoored(torch.from_numpy(found.image[None])), 1)
    assert float(scores[0, 4]) >= 0.99
    assert float(scores[0, 4]) == pytest.approx(found.path[-1], abs=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, backdoored.parameters(), strict=True))


def test_features_feed_the_last_dense_layer(backdoored: nn.Module, digits: Dataset) -> None:
    found = features(backdoored, digits.test.pixels[:20])
    last = [part for part in backdoored.modules() if isinstance(part, nn.Linear)][-1]
    with torch.no_grad():
        expected = backdoored(torch.from_numpy(digits.test.pixels[:20]))
        assert torch.allclose(last(torch.from_numpy(found)), expected, atol=1e-5)


def test_clustering_separates_poisoned_from_clean(backdoored: nn.Module, digits: Dataset) -> None:
    data = poison(digits.train, ATTACK, seed=0)
    found = cluster_class(backdoored, data.images, data.poisoned, 6)
    assert found.purity > 0.95
    small = round(found.share * (data.images.labels == 6).sum())
    hit = found.precision * small
    assert hit == pytest.approx(found.recall * len(data.poisoned), abs=0.6)


def test_pruning_with_unlearning_removes_the_trigger(
    backdoored: nn.Module, digits: Dataset
) -> None:
    assert min(attack_success(backdoored, digits.test, ATTACK, 10)) > 0.9
    few = digits.train.shuffled(1, 1000)
    tune, held = few.take(slice(200, None)), few.take(slice(0, 200))
    repaired, cut = fine_prune(backdoored, tune, held, unlearn=ATTACK.triggers)
    assert min(attack_success(repaired, digits.test, ATTACK, 10)) < 0.2
    assert accuracy(repaired, digits.test) > accuracy(backdoored, digits.test) - 0.03
    weight = [p for p in repaired.modules() if isinstance(p, nn.Conv2d)][-1].weight
    assert int((weight.detach().flatten(1).abs().sum(1) == 0).sum()) >= cut


def test_ssim_is_one_for_equal_images_and_falls_with_noise() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((4, 1, 16, 16), np.float32)
    assert np.allclose(ssim(images, images), 1.0)
    noisy = np.clip(images + rng.normal(0, 0.2, images.shape), 0, 1).astype(np.float32)
    assert (ssim(images, noisy) < 0.95).all()
