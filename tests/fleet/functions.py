"""What workers of the engine's tests run."""

import os
import signal
import time
from pathlib import Path


def square(number):
    return number * number


def slow_square(number):
    time.sleep(0.1)
    return number * number


def sometimes_dies(job):
    """(number, folder): multiples of 7 kill their worker, each try leaving a mark."""
    number, folder = job
    if number % 7 == 0 and number:
        Path(folder, f"{number}-{time.monotonic_ns()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def dies_once(job):
    number, folder = job
    mark = Path(folder, str(number))
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def raises(number):
    if number == 2:
        raise ValueError("two is one too many")
    return number


def where(_):
    return os.getpid()
