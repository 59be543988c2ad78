"""What a method of training-set audit sees and returns.

Methods run in `order` on one `Study`. The early ones propose candidate groups of samples; the
later ones judge them. What they find is kept on the study, so nothing is computed twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from auditor.findings import Figure, Json

if TYPE_CHECKING:
    from auditor.poison.content import ContentProbe
    from auditor.poison.residual import AffineTrigger

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]
Predict = Callable[[Floats], Floats]
"""Class scores (N, K) of float32 images (N, C, H, W) in 0..1."""

_VALUES = 32_000_000
"""Float pixel values held at once: 128 MB."""

FEWEST = 20
"""Members a class needs before anything is said about groups within it."""


class NotApplicable(Exception):
    """Raised by `Method.run` when it cannot say anything; the message is the reason."""


@dataclass(slots=True)
class Suspects:
    """The set in its own order: `pixels` (N, C, H, W), uint8 (0..255) or float32 (0..1)."""

    pixels: NDArray[Any]
    labels: Labels
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def floats(self, index: NDArray[np.int64] | slice) -> Floats:
        """float32 (n, C, H, W) in 0..1 of the samples at `index`."""
        chosen = self.pixels[index]
        if chosen.dtype == np.uint8:
            return chosen.astype(np.float32) / np.float32(255)
        return np.asarray(chosen, np.float32)

    def at_once(self, most: int) -> int:
        """How many images may be held as floats together: `most`, fewer when they are large."""
        return max(32, min(most, _VALUES // max(1, int(np.prod(self.shape)))))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        c, h, w = self.pixels.shape[1:]
        return int(c), int(h), int(w)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A group within class `label` that some method thinks apart; `members` index the set."""

    label: int
    members: NDArray[np.int64]
    source: str


@dataclass(slots=True)
class Confirmed:
    """A class that holds poison: its `members` so far, how that is known, and the trigger."""

    label: int
    members: NDArray[np.int64]
    how: str
    trigger: AffineTrigger | None = None
    asr: float | None = None


@dataclass(slots=True)
class Study:
    """One set under examination.

    `activations` (N, D) float32 are penultimate features of the suspect model (or of a probe of
    ours, then `own_model` is true) and `scores` (N, K) its class scores; both finite. `predict`
    asks the same model about other images; None when it cannot be asked any more.
    """

    suspects: Suspects
    activations: Floats
    scores: Floats
    predict: Predict | None = None
    seed: int = 0
    own_model: bool = False
    candidates: list[Candidate] = field(default_factory=list)
    confirmed: dict[int, Confirmed] = field(default_factory=dict)
    content: ContentProbe | None = None
    shares: dict[str, Any] = field(default_factory=dict)
    spent: Callable[[], bool] = lambda: False

    @property
    def labels(self) -> Labels:
        """The labels as given (N,)."""
        return self.suspects.labels

    @property
    def predicted(self) -> Labels:
        """The model's class for each sample (N,)."""
        top: Labels = self.scores.argmax(axis=1)
        return top

    def probe(self) -> ContentProbe:
        """Our own judge of what an image shows; made on first use."""
        if self.content is None:
            from auditor.poison.content import ContentProbe

            self.content = ContentProbe.fit(self.suspects, self.seed)
        return self.content

    def groups(self, fewest: int = FEWEST) -> dict[int, NDArray[np.int64]]:
        """Members of every class that has at least `fewest`. Raises `NotApplicable` for none."""
        every = {int(k): np.flatnonzero(self.labels == k) for k in np.unique(self.labels)}
        large = {k: index for k, index in every.items() if len(index) >= fewest}
        if not large:
            most = max((len(i) for i in every.values()), default=0)
            raise NotApplicable(
                f"no class has {fewest} samples (the largest has {most}), too few to compare"
            )
        return large


@dataclass(slots=True)
class Result:
    """What one method says.

    `score` (N,) ranks samples, larger is more suspicious, 0 is nothing; `flagged` (N,) bool are the
    samples it would take out; `suggested` (N,) int64 the label it would give, -1 for none.
    `reasons` are words per flagged index where `reason` does not do for all. `metrics` and
    `figures` go into the report as they are.
    """

    score: Floats
    flagged: Mask
    reason: str
    suggested: Labels | None = None
    reasons: dict[int, str] = field(default_factory=dict)
    metrics: dict[str, Json] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def nothing(study: Study) -> tuple[Floats, Mask]:
    """Scores of zero and no flags, to fill in."""
    n = len(study.labels)
    return np.zeros(n, np.float32), np.zeros(n, bool)


class Method(ABC):
    """Subclass, set the attributes, write `run`, register under ``audit.poison``."""

    name: ClassVar[str]
    title: ClassVar[str]
    doc: ClassVar[str]
    """How it works and when it is wrong, with its source (paper, year)."""

    order: ClassVar[int] = 50

    @abstractmethod
    def run(self, study: Study) -> Result:
        """Examine `study`. Raises `NotApplicable` with a reason."""


Rows = list[Mapping[str, Json]]
