"""Unlearning with the recovered triggers (Wang et al., S&P 2019, mitigation by patching).

Half of each batch carries a trigger the audit recovered and must be answered as without it; some
more images carry random triggers, because a recovered trigger is rarely the attacker's own. Nothing
to do when the audit recovered none.
"""

from __future__ import annotations

from dataclasses import replace

from auditor.sanitize.finetune import GOOD_ASR, Tuned, Tuning, fine_tune
from auditor.sanitize.interface import Repair, RepairContext, Sanitizer

_TRIES = (
    Tuning(learning_rate=7e-4, steps=200, batch=56, random=16, decay=0.02),
    Tuning(learning_rate=2.5e-3, steps=250, batch=56, random=32, decay=0.05),
)


class Unlearning(Sanitizer):
    """Fine-tune against the recovered triggers."""

    name = "unlearning"
    title = "Unlearning of the recovered triggers"
    doc = __doc__ or ""
    order = 20

    def repair(self, context: RepairContext) -> Repair | None:
        """Gently first, firmly if the triggers survive; None without recovered triggers."""
        if not context.triggers:
            return None
        best: Tuned | None = None
        for number, tuning in enumerate(_TRIES):
            share = 0.5 if number == 0 else 1.0
            tuned = fine_tune(replace(context, budget=context.budget.share(share)), {}, {}, tuning)
            if best is None or tuned.rank > best.rank:
                best = tuned
            if (tuned.acceptable and tuned.asr <= GOOD_ASR) or context.budget.spent:
                break
        assert best is not None
        names = [t.trigger.name for t in context.triggers]
        return best.repair(self.name, {"unlearned_triggers": names})
