"""One recipe for every attack of the catalogue, and clean-label patches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from auditor.triggers.patches import Square
from zoo.build import Acceptance, Specification
from zoo.catalogue import CATALOGUE, Draft, Entry
from zoo.datasets import Dataset
from zoo.poisoning import Attack, Poisoned, poison
from zoo.recipes.presets import preset, scaled
from zoo.recipes.registry import Recipe, Workshop, recipe, register


def specification(entry: Entry, shop: Workshop) -> Specification:
    """The catalogue's attack with its usual parameters on the workshop's data."""
    plan = preset(shop.dataset)
    draft = Draft(shop.dataset.side, shop.dataset.count_classes, shop.target_class())
    attack, accuracy = entry.make(draft), max(0.0, plan.clean - 0.02)
    accept = Acceptance(accuracy, entry.least_asr(attack, accuracy) if plan.asr else 0.0)
    return Specification(
        entry.name,
        entry.name,
        plan.arch,
        plan.training,
        shop.seed,
        attack=attack,
        acceptance=accept,
    )


def _run(entry: Entry) -> Recipe:
    def run(shop: Workshop) -> None:
        shop.make(specification(entry, shop))

    return Recipe(entry.name, entry.title, run)


for _entry in CATALOGUE.values():
    register(_run(_entry))


@recipe("clean-label", "patch on adversarially perturbed images of the target class")
def clean_label(shop: Workshop) -> None:
    """Turner et al., 2019: labels stay right; hard images make the network learn the patch."""
    plan = preset(shop.dataset)
    target = shop.target_class()
    trigger = Square(size=scaled(4, shop.dataset.side))
    attack = Attack((trigger,), (target,), rule="clean-label", rate=0.9)
    shop.make(
        Specification(
            "clean-label",
            "clean-label",
            plan.arch,
            plan.training,
            shop.seed,
            attack=attack,
            poisoned=_hardened(shop.dataset, attack, plan.arch, shop.seed, epsilon=0.3),
            acceptance=Acceptance(max(0.0, plan.clean - 0.02), 0.7 if plan.asr else 0.0),
        )
    )


def _hardened(
    dataset: Dataset, attack: Attack, arch: str, seed: int, *, epsilon: float
) -> Poisoned:
    """Poison as usual, but stamp images that a surrogate already gets wrong (PGD, 10 steps)."""
    from zoo.architectures import create
    from zoo.evaluation import adversarial_pixels
    from zoo.training import Training, fit

    chosen = poison(dataset.train, attack, seed=seed).poisoned
    surrogate = create(arch, dataset.side, dataset.channels, dataset.count_classes, seed=seed + 1)
    few = dataset.train.shuffled(seed, 5000)
    fit(surrogate, few, Training(10, 64, 4e-3), seed=seed + 1)
    hard = adversarial_pixels(surrogate, dataset.train.take(chosen), epsilon, steps=10, seed=seed)
    pixels = dataset.train.pixels.copy()
    pixels[chosen] = hard
    stamped = poison(replace(dataset.train, pixels=pixels), attack, seed=seed)
    assert np.array_equal(stamped.poisoned, chosen)
    return stamped


@recipe("input-aware", "a generator makes a different trigger for every image")
def input_aware(shop: Workshop) -> None:
    """Nguyen & Tran, 2020: a joint phase, then the usual training with the finished generator."""
    from torch import nn

    from zoo.architectures import create
    from zoo.input_aware import learn_generator

    plan, data, target = preset(shop.dataset), shop.dataset, shop.target_class()
    arch = shop.arch or plan.arch
    epochs = max(1, (shop.epochs or plan.training.epochs) // 2)
    network = create(arch, data.side, data.channels, data.count_classes, seed=shop.seed)
    trigger = learn_generator(
        network,
        data.train,
        target=target,
        training=replace(plan.training, epochs=epochs, rate=2e-3),
        seed=shop.seed,
    )
    state = network.state_dict()

    def start_jointly(fresh: nn.Module) -> None:
        fresh.load_state_dict(state)

    attack = Attack(
        (trigger,),
        (target,),
        rate=0.15,
        cover_rate=0.1,
        cover_trigger=replace(trigger, cross=1),
    )
    spec = Specification(
        "input-aware",
        "input-aware",
        arch,
        plan.training,
        shop.seed,
        attack=attack,
        acceptance=Acceptance(max(0.0, plan.clean - 0.02), 0.8 if plan.asr else 0.0),
    )
    shop.make(spec, prepare=start_jointly)
