import numpy as np
import pytest
import torch

from auditor.inversion.families import Additive, Patch
from auditor.inversion.search import Settings, invert
from tests.attacks.nets import digits
from tests.inversion.nets import trained

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def samples():
    _, _, x, y = digits()
    return x[:100], y[:100]


@pytest.fixture(scope="module")
def planted():
    return trained(target=3, strength=60.0)


def search(net, samples, family, **more):
    targets = more.pop("targets", np.arange(10))
    spent = more.pop("spent", lambda: False)
    settings = Settings(**{"halvings": (), **more})
    return invert(net, *samples, family(SHAPE), targets, settings, spent)


@pytest.mark.parametrize("family", [Patch, Additive])
def test_the_planted_class_is_the_easiest_by_far(planted, samples, family):
    found = search(planted, samples, family)
    first, second = found.ranked()[:2]
    assert found.targets[first] == 3
    assert found.sizes[second] > 1.5 * found.sizes[first]
    trigger = found.family.trigger(found.parameters, int(first))
    others = samples[0][samples[1] != 3]
    stamped = torch.from_numpy(trigger.apply(others.numpy()))
    assert (planted(stamped).argmax(1) == 3).float().mean() > 0.7


def test_the_recovered_mask_lies_on_the_planted_pixels(planted, samples):
    found = search(planted, samples, Patch)
    mask = found.family.trigger(found.parameters, 3).mask[0]
    order = mask.ravel().argsort()[::-1][:2]
    assert set(order.tolist()) == {0, 7}


def test_without_a_plant_no_class_stands_out(samples):
    found = search(trained(), samples, Patch)
    first, second = found.ranked()[:2]
    assert found.sizes[second] < 1.5 * found.sizes[first]


def test_same_seed_same_result_other_seed_other_result(planted, samples):
    a, b, c = (search(planted, samples, Patch, steps=30, seed=s) for s in (0, 0, 1))
    assert np.array_equal(a.sizes, b.sizes)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters, b.parameters, strict=True))
    assert not np.array_equal(a.sizes, c.sizes)


def test_pruning_saves_passes_and_keeps_the_two_easiest(planted, samples):
    full = search(planted, samples, Patch)
    pruned = search(planted, samples, Patch, halvings=((0.4, 0.6), (0.65, 0.4)))
    assert pruned.passes < 0.8 * full.passes
    assert pruned.ranked()[0] == full.ranked()[0]
    assert (pruned.steps[pruned.ranked()[:2]] == 100).all()
    assert pruned.steps.min() == 40


def test_passes_are_counted_image_by_image(planted, samples):
    assert search(planted, samples, Patch, steps=5, batch=7, give_up=1.0).passes == 5 * 7 * 10


def test_a_search_that_reaches_no_class_gives_up_and_one_that_does_goes_on(planted, samples):
    def stubborn(images):
        return planted(images) * 0.0 + torch.nn.functional.one_hot(torch.tensor(0), 10)

    hopeless = search(stubborn, samples, Patch, steps=20, targets=np.arange(1, 10))
    assert not np.isfinite(hopeless.sizes).any()
    assert (hopeless.steps == 12).all()
    assert hopeless.complete
    assert (search(planted, samples, Patch, steps=60).steps == 60).all()


def test_a_spent_budget_stops_the_search_and_is_said(planted, samples):
    found = search(planted, samples, Patch, spent=lambda: True)
    assert not found.complete
    assert (found.steps == 1).all()


def test_a_class_searched_alone_gets_only_images_of_others(planted, samples):
    x, y = samples
    seen = []

    def logits(images):
        seen.append(images)
        return planted(images)

    invert(logits, x, y, Additive(SHAPE), np.array([3]), Settings(steps=3, halvings=()))
    own = x[y == 3]
    for batch in seen:
        nearest = torch.cdist(batch.detach().flatten(1), own.flatten(1)).min(1).values
        assert (nearest > 0.5).all()


def test_no_image_of_another_class_is_an_error(planted):
    x = torch.zeros(4, 1, 8, 8)
    with pytest.raises(ValueError, match="other class"):
        invert(planted, x, torch.full((4,), 3), Patch(SHAPE), np.array([3]), Settings())


def test_results_do_not_depend_on_the_chunking(planted, samples, monkeypatch):
    whole = search(planted, samples, Patch, steps=20)
    monkeypatch.setattr("auditor.inversion.search.CHUNK_VALUES", 1)
    cut = search(planted, samples, Patch, steps=20)
    assert np.allclose(whole.sizes, cut.sizes, rtol=1e-3)
