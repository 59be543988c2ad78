"""Unlearning with the recovered triggers (Wang et al., S&P 2019, mitigation by patching).

Half of each batch carries a trigger the audit recovered and must be answered as without it. A
recovered trigger is rarely the attacker's own, so some more images carry random triggers, and some
carry triggers inverted anew towards the suspected classes as the network unlearns
(`auditor.sanitize.adversaries`). Nothing to do when the audit recovered none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from auditor.sanitize.finetune import Tuning, fine_tune, seconds_a_step
from auditor.sanitize.interface import Repair, RepairContext, Sanitizer
from auditor.sanitize.judge import GOOD_ASR, Tuned

if TYPE_CHECKING:
    from torch import Tensor

_COMMON = Tuning(
    learning_rate=2e-3, batch=48, noise=0.0, random=32, search=30, universal=24, suspected=True,
    decay=0.05, average=0.98,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Pace:
    """`tries` one after the other; `goal`: how low a recovered trigger's success must be for a
    second turn to end, which is taken only where 10 % was missed."""

    tries: tuple[Tuning, ...]
    goal: float


_QUICK = _Pace(
    (
        replace(_COMMON, steps=1000, rounds=4, push=6.0),
        replace(_COMMON, steps=3000, judge_every=100, rounds=4, push=6.0, enough=4),
    ),
    0.08,
)
_GENTLE = _Pace(
    (
        replace(_COMMON, steps=200, rounds=2, learning_rate=2e-4),
        replace(_COMMON, steps=600, rounds=3, learning_rate=2e-4),
    ),
    GOOD_ASR,
)
"""For networks too slow for the many steps that would win back what large ones, or weighing images
with a trigger more, cost. They go on for longer: their last, small steps win accuracy back."""
_ENOUGH = 2
"""Good judgements after which a second turn ends: it costs the user more than the usual minute."""
_SLOW = 0.15
"""Seconds a step, forwards and backwards."""


@dataclass(slots=True)
class _State:
    """What a first turn leaves for a second: the best so far, where training is, tries ended."""

    best: Tuned | None = None
    start: dict[str, Tensor] = field(default_factory=dict)
    ended: int = 0
    pace: _Pace = _QUICK


class Unlearning(Sanitizer):
    """Fine-tune against the recovered triggers."""

    name = "unlearning"
    title = "Unlearning of the recovered triggers"
    doc = __doc__ or ""
    order = 20
    share = 0.9
    resumes = True

    def repair(self, context: RepairContext) -> Repair | None:
        """Ever longer while the triggers survive and time is left; None without any."""
        if not context.triggers:
            return None
        state: _State | None = context.memory.get(self.name)
        again = state is not None
        if state is None:
            slow = seconds_a_step(context, _COMMON) > _SLOW
            state = context.memory[self.name] = _State(pace=_GENTLE if slow else _QUICK)
        while state.ended < len(state.pace.tries):
            tuning = state.pace.tries[state.ended]
            if again:
                tuning = replace(tuning, enough=_ENOUGH, goal=state.pace.goal)
            tuned = fine_tune(context, state.start, {}, tuning)
            if state.best is None or tuned.rank > state.best.rank:
                state.best = tuned
            # Also where that costs too much so far: the gentler rest wins accuracy back.
            state.start = dict(tuned.end or tuned.parameters)
            # The first try is never the end: the attacker's own trigger dies later than ours.
            kept = state.best.acceptable and state.best.excess <= tuning.goal
            done = tuning.enough > 0 and kept
            if done or context.budget.spent:
                break
            state.ended += 1
        assert state.best is not None
        names = [t.trigger.name for t in context.triggers]
        return state.best.repair(
            self.name, {"unlearned_triggers": names, "convicted": context.sure}
        )
