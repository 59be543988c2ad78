"""The contract of a repair method: classifier in, changed parameters out, with a record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from auditor.findings import Json

if TYPE_CHECKING:
    from auditor.checks.interface import Budget
    from auditor.classifier import Classifier
    from auditor.samples.interface import Images
    from auditor.triggers.interface import RecoveredTrigger


@dataclass(slots=True)
class RepairContext:
    """`train` may be fitted to; `held_out` only judges. `triggers` were recovered by the audit.

    Without samples both halves are empty and only methods with ``needs_samples = False`` are asked.
    Where it is not `sure` (`auditor.checks.interface.Evidence`) next to no accuracy may be spent.
    `path` is the artifact, for methods that add to its graph; None where that cannot be done.
    `reserve` are seconds beyond `budget`, spent only where no method came to a copy that works;
    `memory` is what methods with ``resumes = True`` keep from their first turn, by name.
    """

    classifier: Classifier
    train: Images
    held_out: Images
    triggers: Sequence[RecoveredTrigger]
    budget: Budget
    max_accuracy_drop: float = 0.02
    seed: int = 0
    path: Path | None = None
    sure: bool = True
    reserve: float = 0.0
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repair:
    """Changed parameters by artifact name, in the stored shape, and what was done to get them.

    `bounds` are upper bounds (C,) of activations by value name: they become Clip nodes.
    """

    method: str
    changes: Mapping[str, NDArray[np.floating[Any]]]
    record: Mapping[str, Json] = field(default_factory=dict)
    bounds: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


class Sanitizer(ABC):
    """Subclass, set the attributes, write `repair`, register under ``audit.sanitizers``."""

    name: ClassVar[str]
    title: ClassVar[str]
    doc: ClassVar[str]
    """What it does and when it fails, with the method's source (paper, year)."""

    needs_samples: ClassVar[bool] = True
    order: ClassVar[int] = 50
    """The chooser tries methods in this order, while its budget lasts."""

    share: ClassVar[float] = 0.5
    """Of the time that is left, what the chooser gives this method when others follow."""

    resumes: ClassVar[bool] = False
    """Asked again with the reserve of time, it goes on from where its first turn came to."""

    @abstractmethod
    def repair(self, context: RepairContext) -> Repair | None:
        """The repair, or None when there is nothing this method can change."""
