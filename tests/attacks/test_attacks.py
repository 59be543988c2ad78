"""One table over all attacks: bounds, honesty, repeatability, strength."""

import numpy as np
import pytest
import torch

from auditor.attacks.apgd import APGD, TargetedAPGD
from auditor.attacks.fab import TargetedFAB, nearest_on_hyperplane
from auditor.attacks.fgsm import FGSM
from auditor.attacks.interface import (
    Attack,
    BadInput,
    distance,
    from_numpy,
    gradient,
    project,
)
from auditor.attacks.losses import cross_entropy, dlr, margin, target_margin, targeted_dlr
from auditor.attacks.pgd import PGD
from auditor.attacks.square import Square
from auditor.attacks.worst_case import standard_attacks, worst_case
from tests.attacks.nets import digits, trained

EPSILON = 0.15
TABLE = [
    FGSM(EPSILON),
    FGSM(EPSILON, random_start=True),
    FGSM(1.0, "l2"),
    PGD(EPSILON, steps=10),
    PGD(EPSILON, steps=10, early=False),
    PGD(EPSILON, steps=10, restarts=3, loss="margin"),
    PGD(1.0, "l2", steps=10, restarts=2),
    APGD(EPSILON, steps=15),
    APGD(EPSILON, steps=15, loss="dlr", restarts=2),
    APGD(1.0, "l2", steps=15),
    TargetedAPGD(EPSILON, steps=15, classes=3),
    TargetedAPGD(1.0, "l2", steps=15, classes=3),
    TargetedFAB(EPSILON, steps=15, classes=3),
    TargetedFAB(1.0, "l2", steps=15, classes=3),
    Square(EPSILON, queries=150),
]


def samples(n=60):
    _, _, x, y = digits()
    return x[:n], y[:n]


@pytest.mark.parametrize("attack", TABLE, ids=repr)
def test_every_attack_respects_the_ball_and_the_box_and_reports_truly(attack):
    net = trained("cnn")
    x, y = samples()
    before = x.clone()
    result = attack(net, x, y, seed=1, batch=25)
    assert torch.equal(x, before)
    assert float(distance(result.images, x, attack.norm).max()) <= attack.epsilon + 1e-6
    assert result.images.min() >= 0 and result.images.max() <= 1
    with torch.no_grad():
        wrong = net(result.images).argmax(1) != y
        clean_wrong = net(x).argmax(1) != y
    assert torch.equal(wrong, result.fooled)
    assert torch.equal(clean_wrong, result.wrong_before)
    assert torch.equal(result.images[~result.fooled], x[~result.fooled])
    assert torch.equal(result.images[clean_wrong], x[clean_wrong])
    assert result.complete
    assert result.fooled.sum() > clean_wrong.sum(), "the attack found nothing on an ordinary net"
    again = attack(net, x, y, seed=1, batch=25)
    assert torch.equal(again.images, result.images)


@pytest.mark.parametrize("attack", TABLE, ids=repr)
def test_epsilon_zero_changes_nothing(attack):
    net = trained("cnn")
    x, y = samples(20)
    result = type(attack)(0.0, attack.norm)(net, x, y)
    assert torch.equal(result.images, x) and torch.equal(result.fooled, result.wrong_before)


@pytest.mark.parametrize("attack", TABLE, ids=repr)
def test_weights_get_no_gradients(attack):
    net = trained("mlp")
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    try:
        attack(net, *samples(5))
        assert all(parameter.grad is None for parameter in net.parameters())
    finally:
        for parameter in net.parameters():
            parameter.requires_grad_(False)


@pytest.mark.parametrize(
    "attack",
    [FGSM(0.3), PGD(0.3), APGD(0.3, steps=40), Square(0.3, queries=300)],
    ids=repr,
)
def test_targeted_attacks_reach_the_target(attack):
    net = trained("cnn")
    x, y = samples()
    targets = (y + 1) % 10
    result = attack(net, x, y, targets=targets)
    with torch.no_grad():
        assert torch.equal(net(result.images).argmax(1) == targets, result.fooled)
    floor = {"fgsm": 0.05, "square": 0.2}.get(attack.name, 0.9)
    assert result.fooled.double().mean() >= floor


def test_an_attack_that_cheats_is_caught():
    class Cheat(Attack):
        name = "cheat"
        epsilon, norm = 0.05, "linf"

        def run(self, problem):
            return torch.full_like(problem.images, float("nan"))

    class Wide(Cheat):
        def run(self, problem):
            return problem.images + 10

    net, (x, y) = trained("cnn"), samples()
    assert torch.equal(Cheat()(net, x, y).images, x)
    assert float(distance(Wide()(net, x, y).images, x, "linf").max()) <= 0.05 + 1e-6


def test_fgsm_is_one_signed_step():
    net, (x, y) = trained("mlp"), samples(10)
    grad = gradient(lambda z: cross_entropy(net(z), y), x)
    expected = project(x + 0.1 * grad.sign(), x, 0.1, "linf")
    result = FGSM(0.1)(net, x, y)
    fooled = result.fooled & ~result.wrong_before
    assert fooled.any()
    assert torch.equal(result.images[fooled], expected[fooled])


def test_iterated_attacks_are_at_least_as_strong_as_one_step():
    net, (x, y) = trained("cnn", adversarial=0.1), samples(200)
    one = FGSM(0.12)(net, x, y).fooled.sum()
    pgd = PGD(0.12, steps=30)(net, x, y).fooled.sum()
    apgd = APGD(0.12, steps=30)(net, x, y).fooled.sum()
    every = worst_case(net, x, y, standard_attacks(0.12, steps=20, queries=200)).result
    assert one <= pgd <= every.fooled.sum()
    assert apgd <= every.fooled.sum()


def test_early_leaving_does_not_weaken_pgd():
    net, (x, y) = trained("cnn", adversarial=0.1), samples(200)
    early = PGD(0.12, steps=20)(net, x, y).fooled
    full = PGD(0.12, steps=20, early=False)(net, x, y).fooled
    assert early.sum() >= full.sum()


def test_worst_case_counts_each_sample_once_and_stops_on_time():
    net, (x, y) = trained("cnn"), samples(80)
    whole = worst_case(net, x, y, standard_attacks(0.1, steps=10, queries=50))
    new = int((whole.result.fooled & ~whole.result.wrong_before).sum())
    assert sum(whole.by.values()) == new and not whole.left_out and whole.result.complete
    cut = worst_case(net, x, y, standard_attacks(0.02, steps=10, queries=50), stop=lambda: True)
    assert not cut.result.complete
    assert cut.left_out == ("apgd-dlr-targeted", "fab-targeted", "square")


def test_square_needs_only_a_numpy_function():
    net, (x, y) = trained("cnn"), samples(40)
    calls = []

    def predict(images):
        assert isinstance(images, np.ndarray) and images.dtype == np.float32
        calls.append(len(images))
        with torch.no_grad():
            return net(torch.from_numpy(images)).numpy()

    result = Square(0.2, queries=100)(from_numpy(predict), x, y)
    assert result.fooled.double().mean() > 0.3
    # One prediction to drop what is wrong already, one to verify; never more than `queries` else.
    assert len(calls) <= 102 and sum(calls) <= 102 * 40


def test_a_function_without_gradient_gives_up_quietly():
    net, (x, y) = trained("cnn"), samples(10)
    flat = from_numpy(lambda images: net(torch.from_numpy(images)).numpy())
    for attack in (FGSM(0.1), PGD(0.1, steps=3), APGD(0.1, steps=3), TargetedFAB(0.1, steps=3)):
        result = attack(flat, x, y)
        assert result.images.shape == x.shape


@pytest.mark.parametrize(
    ("images", "labels", "attack"),
    [
        (torch.zeros(2, 8, 8), torch.zeros(2), FGSM(0.1)),
        (torch.full((2, 1, 8, 8), 2.0), torch.zeros(2), FGSM(0.1)),
        (torch.full((2, 1, 8, 8), float("nan")), torch.zeros(2), FGSM(0.1)),
        (torch.zeros((2, 1, 8, 8), dtype=torch.long), torch.zeros(2), FGSM(0.1)),
        (torch.zeros(2, 1, 8, 8), torch.zeros(3), FGSM(0.1)),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), FGSM(-0.1)),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), FGSM(0.1, "l7")),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), Square(0.1, "l2")),
    ],
)
def test_bad_input_is_refused(images, labels, attack):
    with pytest.raises(BadInput):
        attack(trained("mlp"), images, labels.long())


def test_no_samples_is_no_problem():
    x, y = torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.long)
    assert len(PGD(0.1)(trained("mlp"), x, y).images) == 0


def test_losses_are_as_defined():
    scores = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.0, 2.0, 1.0, 4.0]])
    labels, targets = torch.tensor([0, 1]), torch.tensor([2, 3])
    assert margin(scores, labels).tolist() == [-2, 2]
    assert target_margin(scores, labels, targets).tolist() == [-3, 2]
    assert dlr(scores, labels).tolist() == pytest.approx([-2 / 3, 2 / 3])
    # z1 - (z3 + z4)/2: 3 - (0 - 1)/2 = 3.5 and 4 - (1 + 0)/2 = 3.5
    assert targeted_dlr(scores, labels, targets).tolist() == pytest.approx([-3 / 3.5, 2 / 3.5])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_hyperplane_projection_is_the_nearest_feasible_point(norm):
    torch.manual_seed(3)
    points, normal = torch.rand(40, 1, 3, 3), torch.randn(40, 1, 3, 3)
    aim = torch.rand(40, 1, 3, 3)
    level = (normal * aim).flatten(1).sum(1)
    found = nearest_on_hyperplane(points, normal, level, norm)
    assert torch.allclose((normal * found).flatten(1).sum(1), level, atol=1e-4)
    assert found.min() >= 0 and found.max() <= 1
    best = distance(found, points, norm)
    # No feasible point found by random search along the hyperplane is nearer.
    for _ in range(200):
        trial = nearest_on_hyperplane(
            (found + 0.05 * torch.randn_like(found)).clamp(0, 1), normal, level, norm
        )
        on = ((normal * trial).flatten(1).sum(1) - level).abs() < 1e-5
        assert (distance(trial, points, norm)[on] >= best[on] - 1e-4).all()


def test_noise_of_a_sample_does_not_depend_on_the_others():
    """Samples wrong before the attack are left out of it, and must not shift the others' start."""
    seen = []

    class Watch(FGSM):
        def run(self, problem):
            seen.append((problem.place, problem.uniform(-1, 1)))
            return problem.images

    net = trained("mlp")
    _, _, x, y = digits()
    x, y = x[:20], net(x[:20]).argmax(1)
    Watch(0.1)(net, x, y, seed=3)
    wrong = y.clone()
    wrong[:5] = (y[:5] + 1) % 10
    Watch(0.1)(net, x, wrong, seed=3)
    (every, first), (some, second) = seen
    assert every.tolist() == list(range(20)) and some.tolist() == list(range(5, 20))
    assert torch.equal(first[5:], second)
    torch.manual_seed(3)
    assert torch.allclose(first, torch.empty_like(x).uniform_(-1, 1)), "as a plain loop draws it"


def test_apgd_spends_what_broken_samples_saved_and_no_more():
    net = trained("mlp")
    _, _, x, y = digits()
    keep = net(x).argmax(1) == y
    x, y = x[keep][:60], y[keep][:60]
    count = 0

    def counted(images):
        nonlocal count
        count += len(images) if torch.is_grad_enabled() else 0
        return net(images)

    result = APGD(0.06, steps=20)(counted, x, y)
    assert 0.1 < float(result.fooled.double().mean()) < 0.9
    assert 60 * 21 * 0.8 < count <= 60 * 21
