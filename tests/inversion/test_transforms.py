import numpy as np
import pytest
import torch

from auditor.inversion.campaign import families
from auditor.inversion.transforms import FlowField, KernelFilter, Smoothing, Warping
from auditor.triggers.record import BadTrigger


@pytest.mark.parametrize("kind", families())
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 10)])
def test_the_trigger_does_what_the_search_did(kind, shape):
    family = kind(shape)
    draw = torch.Generator().manual_seed(0)
    start = tuple(p + 0.3 * torch.randn(p.shape, generator=draw) for p in family.start(3, draw))
    images = torch.rand((3, 4, *shape), generator=draw)
    searched = family.apply(start, images)
    assert searched.shape == images.shape
    assert searched.min() >= 0
    assert searched.max() <= 1
    for row in range(3):
        trigger = family.trigger(start, row)
        assert np.allclose(trigger.apply(images[row].numpy()), searched[row].numpy(), atol=2e-2)


@pytest.mark.parametrize("kind", families())
def test_sizes_are_differentiable_and_at_most_the_unit(kind):
    family = kind((1, 8, 8))
    start = tuple(p.requires_grad_(True) for p in family.start(3, torch.Generator().manual_seed(0)))
    size = family.size(start)
    assert size.shape == (3,)
    assert (size > 0).all()
    assert (size < family.unit).all()
    gradients = torch.autograd.grad(size.sum(), start, allow_unused=True)
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)


def test_a_kernel_at_its_centre_and_a_flow_of_zero_change_nothing():
    images = np.random.default_rng(0).random((2, 3, 9, 9), np.float32)
    kernel = np.zeros((1, 5, 5), np.float32)
    kernel[0, 2, 2] = 1
    assert np.allclose(KernelFilter(kernel).apply(images), images)
    assert np.allclose(FlowField(np.zeros((2, 9, 9), np.float32)).apply(images), images, atol=1e-6)


def test_a_flow_of_one_pixel_shifts_by_one_pixel():
    images = np.random.default_rng(0).random((2, 1, 9, 9), np.float32)
    flow = np.zeros((2, 9, 9), np.float32)
    flow[0] = 1.0
    moved = FlowField(flow).apply(images)
    assert np.allclose(moved[..., :-1], images[..., 1:], atol=1e-5)


def test_names_and_json_of_recovered_transforms():
    kernel = np.full((1, 5, 5), 1 / 25, np.float32)
    assert KernelFilter(kernel).name == "recovered-kernel-1.87px"
    again = KernelFilter.from_json(KernelFilter(kernel).to_json())
    assert again == KernelFilter(kernel)
    flow = np.zeros((2, 9, 9), np.float32)
    flow[0] = 1.0
    assert FlowField(flow).name == "recovered-warp-1.00px"
    with pytest.raises(BadTrigger):
        KernelFilter(kernel[0])
    with pytest.raises(BadTrigger):
        FlowField(flow[:1])


def test_a_net_that_reads_blur_is_found_by_the_blur_family():
    from auditor.inversion.search import Settings, invert

    def logits(images):
        rough = (images[..., 1:] - images[..., :-1]).abs().mean(dim=(1, 2, 3))
        return torch.stack([rough, 0.5 * rough, 20 * (0.15 - rough)], 1)

    images = torch.rand((40, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 2
    settings = Settings(steps=60, halvings=())
    found = invert(logits, images, labels, Smoothing((1, 8, 8)), np.arange(3), settings)
    assert np.isfinite(found.sizes[2])
    assert np.isinf(found.sizes[1])


def test_warps_are_bounded_by_the_image():
    family = Warping((1, 8, 8))
    far = (torch.full((1, 2, 4, 4), 100.0),)
    images = torch.rand((1, 2, 1, 8, 8))
    assert torch.isfinite(family.apply(far, images)).all()
