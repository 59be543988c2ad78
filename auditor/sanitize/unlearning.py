"""Unlearning with the recovered triggers (Wang et al., S&P 2019, mitigation by patching).

Half of each batch carries a trigger the audit recovered and must be answered as without it; some
more images carry random triggers, because a recovered trigger is rarely the attacker's own. Nothing
to do when the audit recovered none.
"""

from __future__ import annotations

from auditor.sanitize.finetune import GOOD_ASR, Tuned, Tuning, fine_tune
from auditor.sanitize.interface import Repair, RepairContext, Sanitizer

_RATES = (1e-3, 4e-3)


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
        for rate in _RATES:
            tuning = Tuning(learning_rate=rate, steps=300, random=32, decay=0.05)
            tuned = fine_tune(context, {}, {}, tuning)
            if best is None or tuned.rank > best.rank:
                best = tuned
            if (tuned.acceptable and tuned.asr <= GOOD_ASR) or context.budget.spent:
                break
        assert best is not None
        names = [t.trigger.name for t in context.triggers]
        return best.repair(self.name, {"unlearned_triggers": names})
