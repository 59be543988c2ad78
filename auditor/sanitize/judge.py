"""What a user can know of a repaired state: held-out accuracy and what triggers still do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.findings import Json
from auditor.sanitize.interface import Repair, RepairContext
from auditor.sanitize.measure import Stamped, twin_accuracy, twin_asr

if TYPE_CHECKING:
    from torch import Tensor

GOOD_ASR = 0.03
"""Recovered triggers that succeed not more often than this, beyond their baseline (what goes to
their target without them), count as unlearned."""
STILL_ALIVE = 0.1
"""Above this ASR of a recovered trigger a copy must not be called repaired without a word."""

_NOTHING = 0.01
_TRIGGERED, _MOST_TRIGGERS = 200, 6
NO_EVIDENCE_DROP = 0.005
"""Accuracy a repair may cost where the audit is not sure of a trigger."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """Parameters by artifact name, with held-out `accuracy` and the highest recovered `asr`.

    `acceptable` says whether the accuracy stays within the allowed drop; `moved` is the share of
    held-out images that random triggers still move; `excess` the highest ASR of a recovered trigger
    beyond its own baseline. `end` is where the training came to, which may be firmer and dearer
    than what is kept.
    """

    parameters: Mapping[str, Tensor]
    accuracy: float
    asr: float
    acceptable: bool
    moved: float = 0.0
    excess: float = 0.0
    end: Mapping[str, Tensor] | None = None

    def repair(self, method: str, record: Mapping[str, Json]) -> Repair:
        """These parameters as the result of `method`."""
        changes = {name: value.detach().cpu().numpy() for name, value in self.parameters.items()}
        return Repair(method, changes, record)

    @property
    def clear(self) -> bool:
        """Whether no recovered trigger succeeds more often than mistakes do without it."""
        return self.excess <= GOOD_ASR

    @property
    def rank(self) -> tuple[bool, float, float, float]:
        """Higher is better: acceptable, low ASR (1 % above mistakes is 0), unmoved, accurate."""
        if not self.acceptable:
            return (False, 0.0, 0.0, self.accuracy)
        return (
            True,
            round(1 - max(self.excess, _NOTHING), 2),
            round(1 - self.moved, 2),
            self.accuracy,
        )


class Judge:
    """Remembers the best state by what a user can know: held-out accuracy and recovered ASR."""

    def __init__(self, context: RepairContext) -> None:
        self.context = context
        self.stamped = Stamped(context.held_out, context.seed)
        self.few = context.held_out.take(slice(0, _TRIGGERED))
        ranked = sorted(context.triggers, key=lambda t: t.baseline - t.asr)
        self.triggers = ranked[:_MOST_TRIGGERS]
        self.accuracy = twin_accuracy(context.classifier, context.held_out)
        self.floor = self.accuracy - allowed_drop(context)
        self._best: Tuned | None = None
        self._last: Tuned | None = None

    def see(self, parameters: Mapping[str, Tensor]) -> Tuned:
        """Judge one state."""
        context = self.context
        frozen = {n: v.detach().clone() for n, v in parameters.items()}
        accuracy = twin_accuracy(context.classifier, context.held_out, frozen)
        rates = [twin_asr(context.classifier, self.few, t, frozen) for t in self.triggers]
        beyond = [rate - t.baseline for rate, t in zip(rates, self.triggers, strict=True)]
        moved = self.stamped.moved(context.classifier, frozen)
        fine = accuracy >= self.floor - 1e-9
        seen = Tuned(
            frozen, accuracy, max(rates, default=0.0), fine, moved, max(beyond, default=0.0)
        )
        self._last = seen
        if self._best is None or seen.rank > self._best.rank:
            self._best = seen
        return seen

    def soften(self, original: Mapping[str, Tensor]) -> None:
        """If the last state costs too much, judge states on the line back to the original.

        Between a network and its fine-tuned form the loss is nearly convex (Wortsman et al., 2022).
        """
        if self._last is None or self._last.acceptable:
            return
        last = dict(self._last.parameters)
        for share in (0.8, 0.6, 0.4):
            if self.context.budget.spent:
                return
            mixed = {n: share * v + (1 - share) * original[n] for n, v in last.items()}
            if self.see(mixed).acceptable:
                return

    def result(self) -> Tuned:
        """The best state seen; the last step is always judged."""
        assert self._best is not None
        return self._best


def allowed_drop(context: RepairContext) -> float:
    """What a repair may cost on held-out samples: next to nothing where nothing was found."""
    limit = context.max_accuracy_drop
    return limit if context.triggers and context.sure else min(limit, NO_EVIDENCE_DROP)
