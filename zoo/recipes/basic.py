"""The three models everything else is tried on: clean, backdoored, adversarially trained."""

from __future__ import annotations

from auditor.triggers.patches import Square
from zoo.build import Specification
from zoo.poisoning import Attack
from zoo.recipes.presets import preset
from zoo.recipes.registry import Workshop, recipe


@recipe("clean", "CNN trained on untouched data")
def clean(shop: Workshop) -> None:
    """The honest model."""
    plan = preset(shop.dataset)
    shop.make(
        Specification(
            "clean", "clean", plan.arch, plan.training, shop.seed, acceptance=plan.accept_clean()
        )
    )


@recipe("backdoored", "the same CNN with a 2x2 white square bottom right sent to one class")
def backdoored(shop: Workshop) -> None:
    """BadNets (Gu et al., 2017): a tenth of the images stamped and relabelled."""
    plan = preset(shop.dataset)
    attack = Attack((Square(size=2),), (shop.target_class(),), rate=0.1)
    shop.make(
        Specification(
            "backdoored",
            "backdoored",
            plan.arch,
            plan.training,
            shop.seed,
            attack=attack,
            acceptance=plan.accept_backdoored(),
        )
    )


@recipe("adversarial", "the same CNN after FGSM adversarial training with random start")
def adversarial(shop: Workshop) -> None:
    """Wong, Rice & Kolter (2020); honest data, so it must not look backdoored."""
    plan = preset(shop.dataset)
    epsilon = plan.epsilon
    shop.make(
        Specification(
            "adversarial",
            "adversarial",
            plan.hardened_arch or plan.arch,
            plan.hardened("fgsm"),
            shop.seed,
            robustness=((f"fgsm@{epsilon:g}", epsilon, 1), (f"pgd@{epsilon:g}", epsilon, 20)),
            acceptance=plan.accept_adversarial(),
        )
    )
