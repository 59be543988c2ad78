"""Every relaxation encloses its function; intervals and transposes are what they claim."""

import pytest
import torch
from torch.nn import functional

from auditor.bounds.crown import through_lines
from auditor.bounds.nonlinear import SIGMOID, TANH, MaxPool, Relu


def intervals(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centre = 4 * torch.randn(shape, generator=generator, dtype=torch.float64)
    width = torch.rand(shape, generator=generator, dtype=torch.float64) ** 3 * 6
    width[0].zero_()  # point intervals too
    return centre - width, centre + width


@pytest.mark.parametrize("op", [Relu(), Relu(0.1), SIGMOID, TANH], ids=str)
def test_elementwise_lines_enclose_the_function(op):
    low, high = intervals((4, 500))
    lines = op.relax((low, high))
    below, above = op.interval((low, high))
    for t in torch.linspace(0, 1, 201, dtype=torch.float64):
        x = low + t * (high - low)
        y = op.forward(x)
        assert (lines.low_slope * x + lines.low_shift <= y + 1e-9).all()
        assert (lines.high_slope * x + lines.high_shift >= y - 1e-9).all()
        assert (below <= y + 1e-12).all() and (above >= y - 1e-12).all()


def test_relu_is_exact_where_its_sign_is_known():
    low = torch.tensor([[-3.0, 1.0]], dtype=torch.float64)
    high = torch.tensor([[-1.0, 2.0]], dtype=torch.float64)
    lines = Relu().relax((low, high))
    assert lines.low_slope.tolist() == lines.high_slope.tolist() == [[0, 1]]
    assert not Relu().loose((low, high)).any()


def test_relaxation_is_tight_for_sigmoid():
    """The lines touch the function somewhere: a constant bound would pass the enclosure alone."""
    low, high = intervals((1, 300), seed=2)
    low, high = low + (low == high) * -0.5, high
    lines = SIGMOID.relax((low, high))
    gaps = []
    for t in torch.linspace(0, 1, 2001, dtype=torch.float64):
        x = low + t * (high - low)
        gaps.append(lines.high_slope * x + lines.high_shift - torch.sigmoid(x))
    assert torch.stack(gaps).amin(0).max() < 1e-3


POOLS = [
    MaxPool((2, 2), (2, 2), (0, 0), (1, 1), False),
    MaxPool((3, 3), (2, 2), (1, 1), (1, 1), False),
    MaxPool((3, 2), (2, 1), (0, 1), (1, 1), True),
    MaxPool((2, 2), (1, 1), (0, 0), (2, 2), False),
    MaxPool((1, 1), (1, 1), (0, 0), (1, 1), False),
]


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_max_pool_lines_enclose_it(pool):
    low, high = intervals((3, 2, 7, 8), seed=1)
    lines = pool.relax((low, high))
    generator = torch.Generator().manual_seed(5)
    for number in range(200):
        t = torch.rand(low.shape, generator=generator, dtype=torch.float64)
        t = t.round() if number % 2 else t  # corners of the box are the hard places
        x = low + t * (high - low)
        y = functional.max_pool2d(
            x, pool.kernel, pool.stride, pool.padding, pool.dilation, pool.ceil
        )
        flat = x.flatten(2)
        for slope, shift, source, sign in (
            (lines.low_slope, lines.low_shift, lines.low_from, 1),
            (lines.high_slope, lines.high_shift, lines.high_from, -1),
        ):
            picked = flat.gather(2, source.flatten(2)).reshape(y.shape)
            assert (sign * (y - slope * picked - shift) >= -1e-9).all()


def test_max_pool_backward_is_the_line():
    pool = POOLS[1]
    low, high = intervals((2, 2, 7, 8), seed=4)
    lines = pool.relax((low, high))
    x = (low + high) / 2
    held = torch.randn(3, *lines.low_slope.shape, dtype=torch.float64)
    coefficients, shift = through_lines(held, lines, low)
    bound = (coefficients * x).flatten(2).sum(2) + shift
    value = (held * pool.forward(x)).flatten(2).sum(2)
    assert (bound <= value + 1e-9).all()
