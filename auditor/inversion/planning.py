"""How long a search may be: by the number of classes and by what a pass costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from auditor.inversion.search import Settings
from auditor.inversion.shortlist import LEAST

MANY_CLASSES = 40
PRUNE_ABOVE = 12
_FITS = 0.25
"""Share of the budget that a whole search may need: less than what patch and additive each get."""

_ROOM = 0.4
"""Share of the budget that the first search may need before classes are left out."""

THRIFTY = (
    "The network is slow for the time there is: half the images a step were searched, and classes "
    "that seemed hopeless dropped early (time budget). A longer --budget searches more and finds "
    "more."
)

_A_THREAD_MORE, _MOST_THREADS = 0.5, 4
"""What a further thread adds, on two free cores rather more; beyond four nothing is counted on."""


def pass_seconds(on_one_thread: float, threads: int) -> float:
    """Seconds an image takes forwards and backwards on `threads`; a coarse clock may see none."""
    more = min(threads, _MOST_THREADS) - 1
    return max(on_one_thread, 1e-9) / (1 + _A_THREAD_MORE * more)


def settings_for(classes: int, seed: int) -> Settings:
    """Every class to the end where there are few; with many, fewer images and early pruning."""
    settings = Settings(seed=seed, batch=8 if classes > MANY_CLASSES else 16)
    return settings if classes > PRUNE_ABOVE else replace(settings, halvings=())


def plan(classes: int, seed: int, pass_seconds: float, seconds: float) -> Settings:
    """The usual settings, or thrifty ones (half the images, pruning) for slow networks.

    `pass_seconds` is what one image takes forwards and backwards; `seconds` is what all families
    have.
    """
    usual = settings_for(classes, seed)
    whole = usual.steps * classes * usual.batch * pass_seconds
    if whole <= _FITS * seconds or not np.isfinite(seconds):
        return usual
    return replace(usual, batch=8, halvings=Settings().halvings)


def affordable(settings: Settings, classes: int, step_seconds: float, seconds: float) -> int:
    """How many of `classes` to search within `seconds`, which all families share.

    `step_seconds` is what one step of one class takes. All, where a family can have that much time
    and leave enough to the next; otherwise as many as patch and additive search both can finish.
    """
    if not np.isfinite(seconds):
        return classes
    one = settings.steps * _kept(settings) * step_seconds
    if one * classes <= _ROOM * seconds:
        return classes
    return min(classes, max(LEAST, int(_FITS * seconds / max(one, 1e-12))))


def _kept(settings: Settings) -> float:
    """The share of all classes that a step searches, on average."""
    out, kept, since = 0.0, 1.0, 0.0
    for at, share in settings.halvings:
        out, kept, since = out + kept * (at - since), share, at
    return out + kept * (1 - since)
