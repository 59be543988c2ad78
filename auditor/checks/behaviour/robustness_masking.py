"""Whether the robustness figures can be trusted: signs of gradient masking."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from auditor.checks.behaviour import robustness_common as common
from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete, Skipped
from auditor.findings import Finding, Metric, Outcome, Severity

LEAST = 20


class GradientMasking(BehaviourCheck):
    """Compares attacks that should not beat each other."""

    name = "robustness.masking"
    title = "Trust in the robustness figures"
    doc = (
        "Signs that gradients mislead (Athalye et al. 2018, Carlini et al. 2019, Croce and Hein "
        "2020): zero gradients, queries beat gradients, one step beats many, steps without bound "
        "fail, a smaller single step beats a larger one (collapsed one-step training), the loss "
        "decides. A sign says that accuracy under attack is higher than the truth, not that the "
        "model is malicious. Differences must reach 15 points and pass an exact test at 1 %."
    )
    needs = frozenset({"gradients", "predictions", "samples"})
    default_severity = Severity.INFO  # about the robustness figures, so a measurement like them
    order = 65
    weight = 0.8

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield ``robustness.masked`` and one finding when there are signs."""
        from auditor.attacks import masking

        samples, predict = common.given_samples(context), common.twin_function(context)
        common.need_time(context)
        predicted = context.classifier.predict(samples.pixels).argmax(axis=1)
        if len(np.unique(predicted)) < 2:
            raise Skipped("the model gives every sample the same class")
        right = predicted == samples.labels
        correct = samples.take(np.flatnonzero(right))
        if len(correct) < LEAST:
            raise Skipped(f"needs {LEAST} samples the model classifies correctly")
        steps = common.whole_number(context, "masking_steps", 20)
        queries = common.whole_number(context, "masking_queries", 300)
        gradients, query = common.gradient_seconds, common.predict_seconds
        # Samples that an attack fools leave it early: half of the worst case is planned for.
        cost = gradients(context, correct) * (3 * steps + 12) + query(context, correct) * queries
        if 0.5 * LEAST * cost > context.budget.left:
            raise Skipped(f"needs about {0.5 * LEAST * cost:.0f} s of the time budget")
        used = common.affordable(context, correct.take(slice(0, 200)), cost)
        if len(used) < LEAST:
            used = correct.take(slice(0, LEAST))
        value = float(context.options.get("robustness.masking_epsilon", _epsilon(context)))
        images, labels = common.tensors(context, used)
        found = masking.measure(
            predict,
            common.native_function(context),
            images,
            labels,
            value,
            steps=steps,
            queries=queries,
            seed=context.seed,
            batch=common.batch_size(used),
            stop=lambda: context.budget.spent,
        )
        if found is None:
            raise Incomplete("the time budget ended before all attacks had run")
        every = tuple(masking.signs(found, value))
        seen = masking.distrust(every)
        yield Metric("robustness.masked", any(sign.strong for sign in seen))
        yield Metric("robustness.masking.n", len(used))
        yield Metric("robustness.masking.epsilon", value)
        rows = [{"sign": s.name, "seen": s.seen, "evidence": s.evidence} for s in every]
        yield Metric("robustness.masking.signs", rows)
        if seen:
            yield Finding(
                rule="robustness.masking",
                severity=Severity.MEDIUM if seen[0].strong else Severity.LOW,
                title="The robustness figures of this model are not to be trusted",
                evidence="; ".join(sign.evidence for sign in seen),
                why="Gradients lead attacks astray here, so accuracy under gradient attacks is "
                "higher than what a determined attacker would leave.",
                remedy="Rely on the certificate and on query attacks only; train with iterated "
                "adversarial training and without gradient-hiding layers.",
            )


def _epsilon(context: BehaviourContext) -> float:
    """Large enough that an honest gradient attack breaks most of an ordinary model."""
    return 0.2 if context.classifier.image_shape[0] == 1 else 0.06
