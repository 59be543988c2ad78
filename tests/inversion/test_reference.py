import numpy as np
import torch

from auditor.inversion.attraction import attraction
from auditor.inversion.reference import linear_reference
from auditor.samples.interface import Images
from tests.checks.behaviour.fakes import FakeClassifier, images


def test_the_reference_reads_digits_and_is_differentiable():
    samples = images(300)
    logits = linear_reference(samples, 10, seed=0)
    x = torch.from_numpy(samples.pixels).requires_grad_(True)
    scores = logits(x)
    assert (scores.argmax(1).numpy() == samples.labels).mean() > 0.9
    assert torch.autograd.grad(scores.sum(), x)[0].abs().sum() > 0


def test_large_images_are_averaged_and_missing_classes_score_far_below():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2 + 3
    pixels = rng.random((40, 3, 40, 48), np.float32) * 0.2
    pixels[labels == 4] += 0.5
    logits = linear_reference(Images(pixels, labels, "made"), 6, seed=0)
    scores = logits(torch.from_numpy(pixels))
    assert scores.shape == (40, 6)
    assert (scores.argmax(1).numpy() == labels).all()


def test_one_class_gives_no_reference():
    one = Images(np.zeros((5, 1, 8, 8), np.float32), np.zeros(5, np.int64), "made")
    assert linear_reference(one, 10, seed=0) is None


def test_attraction_names_the_class_noise_leads_to():
    def net(x):
        rough = (x[..., 1:] - x[..., :-1]).abs().mean(dim=(1, 2, 3))
        scores = torch.zeros(len(x), 10)
        scores[:, 1] = 1.0
        scores[:, 7] = 20 * (rough - 0.05)
        return scores

    flat = Images(np.full((30, 1, 8, 8), 0.5, np.float32), np.ones(30, np.int64), "made")
    share = attraction(FakeClassifier(net), flat, seed=0)
    assert share.argmax() == 7
    assert share[7] == 1.0


def test_attraction_is_zero_where_nothing_changes():
    def stubborn(x):
        return torch.eye(10)[1].repeat(len(x), 1)

    samples = images(30)
    assert attraction(FakeClassifier(stubborn), samples, seed=0).sum() == 0
