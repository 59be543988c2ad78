"""Unlearning of universal triggers towards every class, found while unlearning them.

For backdoors whose trigger the audit did not recover. In rounds, a small patch and a small additive
pattern are inverted towards every class (as in I-BAU, Zeng et al., ICLR 2022, with the search of
Neural Cleanse, Wang et al., 2019), and the network must answer as without them, as well as under
random triggers of every family (`auditor.sanitize.stamps`). Decoupled weight decay (Loshchilov &
Hutter, 2019) lets fade what clean images do not need. Costs more accuracy than `unlearning`, and
misses triggers that look like no patch, pattern or common filter.
"""

from __future__ import annotations

from dataclasses import replace

from auditor.sanitize.finetune import Tuning, fine_tune
from auditor.sanitize.interface import Repair, RepairContext, Sanitizer
from auditor.sanitize.judge import Tuned


class UniversalUnlearning(Sanitizer):
    """Fine-tune against universal and random triggers."""

    name = "universal-unlearning"
    title = "Unlearning of universal triggers"
    doc = __doc__ or ""
    order = 30

    def repair(self, context: RepairContext) -> Repair | None:
        """Two rounds of search and unlearning."""
        tuning = Tuning(
            learning_rate=1.5e-3, steps=240, batch=48, random=32, rounds=2, search=30, decay=0.1
        )
        tuned = fine_tune(context, {}, {}, tuning)
        sure = bool(context.triggers) and context.sure
        tuned = tuned if sure else _halfway(context, tuned)
        return tuned.repair(self.name, {"rounds": tuning.rounds, "halfway": not sure})


def _halfway(context: RepairContext, tuned: Tuned) -> Tuned:
    """Half of the change: a few hundred samples cannot tell half a point of accuracy, so that where
    nothing was found the copy stays nearer to the original than they demand.

    The mean of a network and its fine-tuned form loses less accuracy than either side of it
    suggests (Wortsman et al., 2022).
    """
    assert context.classifier.twin is not None
    original = context.classifier.twin.parameters
    mixed = {n: 0.5 * (value + original[n]) for n, value in tuned.parameters.items()}
    return replace(tuned, parameters=mixed)
