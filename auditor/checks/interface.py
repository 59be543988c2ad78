"""The contract of a check: class attributes say what it is and needs, `run` yields outcomes.

Two kinds share it. *File checks* (`needs` is just ``file``) get a `FileContext` and never execute
anything. *Behaviour checks* get a `BehaviourContext` around a running classifier. Both run in the
sandbox child; whatever they yield crosses a pipe as JSON and plain arrays.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from auditor.findings import Json, Outcome, Severity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from auditor.artifacts.interface import Artifact
    from auditor.classifier import Classifier
    from auditor.samples.interface import Images
    from auditor.triggers.interface import RecoveredTrigger

NEEDS = frozenset({"file", "predictions", "gradients", "activations", "samples", "training_data"})


class Skipped(Exception):
    """Raised by `Check.run` when the check does not apply; the message is the reason."""


class Incomplete(Exception):
    """Raised by `Check.run` when it should have run but could not finish; the message says why."""


@dataclass(slots=True)
class Budget:
    """Seconds a check may use. `clock` is injectable so that tests need not wait."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.seconds - (self.clock() - self.started))

    @property
    def spent(self) -> bool:
        """True when nothing is left: finish the step in hand, yield what you have, say so."""
        return self.left <= 0.0

    def share(self, fraction: float) -> Budget:
        """A new budget of `fraction` of what is left."""
        return Budget(self.left * fraction, self.clock)


@dataclass(slots=True)
class FileContext:
    """What a file check sees: the parsed artifact, nothing running."""

    artifact: Artifact
    budget: Budget
    options: Mapping[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class Evidence:
    """What behaviour checks leave for later ones: recovered triggers, per-class features.

    `leads` are triggers that work and make their class suspicious without convicting it; a repair
    may try them where nothing better is known. `relatives` are known triggers that work towards a
    convicted class too: a repair should remove them as well. `sure` once more than one family of
    trigger, or a known trigger, speaks against a class: only then may a repair cost accuracy.
    `standings` are (K,) values by measure, one a class: larger where it is more suspicious, NaN
    where it was not reached.
    """

    triggers: list[RecoveredTrigger] = field(default_factory=list)
    leads: list[RecoveredTrigger] = field(default_factory=list)
    relatives: list[RecoveredTrigger] = field(default_factory=list)
    sure: bool = False
    features: dict[str, float] = field(default_factory=dict)
    standings: dict[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(slots=True)
class BehaviourContext:
    """What a behaviour check sees. Images are always float32 (N, C, H, W) in 0..1.

    `samples` are labelled clean samples (None when none were given), already limited and shuffled
    with `seed`; `training` is the suspect training set. `all_samples` holds every sample given, for
    checks that only predict. `options` carries check settings by name.
    """

    classifier: Classifier
    samples: Images | None
    training: Images | None
    budget: Budget
    seed: int = 0
    device: str = "cpu"
    evidence: Evidence = field(default_factory=Evidence)
    options: Mapping[str, Json] = field(default_factory=dict)
    all_samples: Images | None = None


class Check(ABC):
    """Subclass, set the attributes, write `run`, register under ``audit.checks``."""

    name: ClassVar[str]
    """Dotted, stable: ``robustness.fgsm``."""

    title: ClassVar[str]
    doc: ClassVar[str]
    """What it looks at and when it is wrong, with the method's source (paper, year)."""

    needs: ClassVar[frozenset[str]]
    default_severity: ClassVar[Severity] = Severity.INFO
    order: ClassVar[int] = 50
    """Behaviour checks run in this order, so that later ones can use `Evidence`."""

    weight: ClassVar[float] = 1.0
    """Share of the behaviour budget relative to the other checks that run."""

    on_request: ClassVar[bool] = False
    """Runs only where ``--checks`` names it: a baseline to compare with, not part of an audit."""

    @abstractmethod
    def run(self, context: FileContext | BehaviourContext) -> Iterator[Outcome]:
        """Yield findings, metrics, figures and notices. May raise `Skipped` or `Incomplete`."""


class FileCheck(Check):
    """A check of the file alone."""

    needs = frozenset({"file"})

    def run(self, context: FileContext | BehaviourContext) -> Iterator[Outcome]:
        """Dispatch to `inspect`."""
        assert isinstance(context, FileContext)
        return self.inspect(context)

    @abstractmethod
    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield outcomes; executes nothing of the artifact."""


class BehaviourCheck(Check):
    """A check of the running classifier."""

    def run(self, context: FileContext | BehaviourContext) -> Iterator[Outcome]:
        """Dispatch to `observe`."""
        assert isinstance(context, BehaviourContext)
        return self.observe(context)

    @abstractmethod
    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield outcomes."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A static rule as `audit rules` lists it and `audit explain` shows it.

    `example` is a short description of a file that violates it and what the report then says.
    """

    id: str
    title: str
    severity: Severity
    why: str
    remedy: str
    formats: tuple[str, ...]
    cwe: str | None = None
    example: str = ""
    blocks_run: bool = False
