"""One thread for small networks: two of them spend more time waiting for each other than working.

Measured on two cores: a step of a small CNN takes 6 ms with one thread; with two on a busy machine
it took 700 ms, because every operator ends in a barrier.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def measured_step(step: Callable[[], object]) -> Iterator[float]:
    """Yields the seconds of processor time that `step` takes on one thread.

    `step` is run twice (the first warms up); processor time is not disturbed by other processes.
    How many threads the block then uses is not decided by a clock: sums in another order would make
    two runs with one seed differ.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        step()
        started = time.process_time()
        step()
        seconds = time.process_time() - started
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
