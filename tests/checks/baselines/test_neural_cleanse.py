import numpy as np
import pytest
import torch

from auditor.checks.baselines import neural_cleanse as nc
from auditor.checks.registry import all_checks, chosen
from tests.attacks.nets import digits
from tests.inversion.nets import trained


@pytest.fixture(scope="module")
def images():
    _, _, x, _ = digits()
    return x[:64]


def test_the_planted_class_has_the_smaller_mask(images, monkeypatch):
    monkeypatch.setattr(nc, "STEPS", 120)
    net = trained(target=3, strength=60.0)
    planted, other = nc.reverse(net, images, (3, 5), 0)
    assert planted.size < 0.7 * other.size
    assert planted.passes == planted.steps * 64


def test_classes_searched_together_find_what_each_finds_alone(images, monkeypatch):
    monkeypatch.setattr(nc, "STEPS", 80)
    net = trained(target=3, strength=60.0)
    together = nc.reverse(net, images, (3, 5, 7), 0)
    alone = [nc.reverse(net, images, (k,), 0)[0] for k in (3, 5, 7)]
    assert [one.steps for one in together] == [one.steps for one in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.size == pytest.approx(other.size, rel=0.02)


def test_the_schedule_raises_lowers_and_ends():
    schedule = nc._Schedule()
    for _ in range(nc.PATIENCE):
        schedule.epoch(1.0, 50.0)
    assert schedule.cost == nc.FIRST_COST
    for _ in range(nc.PATIENCE):
        schedule.epoch(1.0, 40.0)
    assert schedule.cost == nc.FIRST_COST * nc.UP
    for _ in range(nc.PATIENCE):
        schedule.epoch(0.2, 5.0)
    assert schedule.cost == pytest.approx(nc.FIRST_COST * nc.UP / nc.DOWN)
    assert schedule.best == 40.0
    for _ in range(nc.EARLY_PATIENCE):
        schedule.epoch(0.2, 5.0)
    assert schedule.ended


def test_full_length_runs_every_epoch(images, monkeypatch):
    monkeypatch.setattr(nc, "STEPS", 60)
    monkeypatch.setattr(nc, "EARLY_PATIENCE", 1)
    monkeypatch.setattr(nc, "PATIENCE", 2)
    net = trained(target=3, strength=60.0)
    assert nc.reverse(net, images, (3,), 0, early_stop=False)[0].steps == 60
    assert nc.reverse(net, images, (3,), 0)[0].steps < 60
    assert not nc.FullNeuralCleanse.early_stop


def test_anomaly_index_is_the_papers():
    sizes = np.array([10.0, 52.0, 50.0, 48.0, 51.0])
    index, smallest = nc.anomaly_index(sizes)
    assert smallest == 0
    assert index == pytest.approx((50 - 10) / (1.4826 * 2.0))
    assert nc.anomaly_index(np.full(4, np.inf)) == (0.0, 0)


def test_baselines_run_only_when_named():
    checks = [r.check for r in all_checks()[0]]
    assert not any(c.on_request for c in chosen(checks, (), ()))
    named = chosen(checks, ("baseline.neural-cleanse",), ())
    assert [c.name for c in named] == ["baseline.neural-cleanse"]
    assert len(chosen(checks, ("baseline",), ())) == 3


def test_art_is_skipped_with_a_word_where_it_is_missing(monkeypatch):
    from auditor.checks.baselines import activation_clustering as ac
    from auditor.checks.interface import BehaviourContext, Budget, Skipped

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(ac, "import_module", missing)
    context = BehaviourContext(None, None, None, Budget(1.0))
    with pytest.raises(Skipped, match="not installed"):
        list(ac.ArtActivationClustering().observe(context))


def test_gradients_reach_both_mask_and_pattern(images):
    mask = torch.zeros((1, 8, 8), requires_grad=True)
    pattern = torch.zeros((1, 8, 8), requires_grad=True)
    optimiser = torch.optim.Adam([mask, pattern], lr=0.1)
    goal, cost = torch.tensor([3]), torch.tensor([0.1])
    nc._batch(trained(), images[None, :32], goal, [mask], [pattern], cost, optimiser)
    assert float(mask.detach().abs().max()) > 0
    assert float(pattern.detach().abs().max()) > 0
