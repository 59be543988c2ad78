import numpy as np
import pytest
import torch
from scipy import fft

from auditor.inversion.search import Settings, invert
from auditor.inversion.smooth import COSINES, Smooth

SETTINGS = Settings(steps=60, halvings=())


@pytest.mark.parametrize("shape", [(1, 5, 20), (3, 28, 28)])
def test_the_pattern_has_low_frequencies_only_and_the_size_is_its_length(shape):
    family = Smooth(shape)
    found = family.start(2, torch.Generator().manual_seed(0))
    pattern = family.trigger(found, 1).pattern
    spectrum = fft.dctn(pattern, axes=(1, 2), norm="ortho")
    assert np.abs(spectrum[:, COSINES:]).max(initial=0) < 1e-5
    assert np.abs(spectrum[:, :, COSINES:]).max(initial=0) < 1e-5
    assert float(family.size(found)[1]) == pytest.approx(float(np.linalg.norm(pattern)), rel=1e-4)


def reads(pattern):
    """Logits of three classes, the last of which answers `pattern` alone."""
    pattern = torch.as_tensor(pattern, dtype=torch.float32)
    pattern = pattern / pattern.norm()

    def logits(images):
        seen = ((images - 0.5) * pattern).sum(dim=(1, 2, 3))
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([0.1 * mean, 0.2 - 0.1 * mean, 5 * (seen - 1.0)], 1)

    return logits


def search(logits):
    images = 0.25 + 0.5 * torch.rand((40, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 2
    return invert(logits, images, labels, Smooth((1, 16, 16)), np.array([2]), SETTINGS)


def test_a_net_that_reads_a_slope_is_found_one_that_reads_a_fine_grid_is_not():
    row, column = np.indices((16, 16))
    slope = search(reads(column[None] / 7.5 - 1))
    assert np.isfinite(slope.sizes[0])
    assert slope.sizes[0] < 3.0
    grid = search(reads((1.0 - 2.0 * ((row + column) % 2))[None]))
    assert np.isinf(grid.sizes[0])
