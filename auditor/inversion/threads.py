"""One thread for small networks: two of them spend more time waiting for each other than working.

Measured on two cores: a step of a small CNN takes 6 ms with one thread; with two on a busy machine
it took 700 ms, because every operator ends in a barrier.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WORTH_SHARING = 0.1
"""Seconds of processor time of one step from which several threads pay."""


@contextmanager
def suited_threads(step: Callable[[], object]) -> Iterator[float]:
    """Within the block torch uses one thread, or as many as before when `step` is long enough.

    `step` is run twice with one thread (the first warms up) and measured in processor time, which
    other processes do not disturb. Yields that time in seconds.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        step()
        started = time.process_time()
        step()
        seconds = time.process_time() - started
        if seconds > WORTH_SHARING:
            torch.set_num_threads(before)
        yield seconds
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block torch uses one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
