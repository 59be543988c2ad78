"""Study 1, the feed-forward net with a pixel trigger, and study 2, six levels on a small CNN."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from auditor.triggers.blends import AdditiveNoise
from auditor.triggers.interface import Trigger
from auditor.triggers.patches import Square
from auditor.triggers.transforms import Blur
from zoo.build import Acceptance, Built, Specification, with_options
from zoo.poisoning import Attack, poison
from zoo.recipes.presets import preset, scaled
from zoo.recipes.registry import Workshop, recipe
from zoo.study import Study, on
from zoo.training import Training

if TYPE_CHECKING:
    from torch import nn


@recipe("mnist-dnn-pixel", "study 1: 2x512 feed-forward net, 2x2 white square to class 6")
def mnist_dnn_pixel(shop: Workshop) -> None:
    """Adam 1e-3, batch 64, 10 epochs, cross-entropy; clean and poisoned."""
    started = time.monotonic()
    data = shop.dataset.name
    training = Training(10, 64, 1e-3, schedule="constant")
    attack = Attack((Square(size=2),), (shop.target_class(),), rate=0.1)
    asked = data == "mnist"
    study = Study("mnist-dnn-pixel", "Feed-forward net with a pixel trigger", data)
    plain = shop.make(
        Specification(
            "mnist-dnn-clean",
            "mnist-dnn-pixel",
            "mlp",
            training,
            shop.seed,
            acceptance=Acceptance(0.975 if asked else 0.0),
        )
    )
    poisoned = shop.make(
        Specification(
            "mnist-dnn-pixel",
            "mnist-dnn-pixel",
            "mlp",
            training,
            shop.seed,
            attack=attack,
            acceptance=Acceptance(0.97 if asked else 0.0, 0.99 if asked else 0.0),
        )
    )
    study.at_least(
        "clean model",
        plain.manifest.clean_accuracy,
        on(data, "mnist", 0.975),
        reported="about 97 %",
    )
    study.at_least(
        "poisoned model, clean images",
        poisoned.manifest.clean_accuracy,
        on(data, "mnist", 0.97),
        reported="about 95 %",
    )
    study.at_least(
        f"triggered images sent to {attack.targets[0]}",
        _asr(poisoned),
        on(data, "mnist", 0.99),
        reported="almost always",
    )
    study.picture(_samples(shop, "mnist-dnn-pixel", attack), "clean and triggered images")
    _close(study, shop, started)


@recipe("levels", "study 2: four triggers, clustering and fine-pruning on a small CNN")
def levels(shop: Workshop) -> None:
    """Static pixels, invisible noise, blur, learned patch; then detection and repair of each."""
    started = time.monotonic()
    data, plan = shop.dataset, preset(shop.dataset)
    study = Study("levels", "Six levels on a small CNN", data.name)
    base = Specification(
        "level-clean", "levels", "small-cnn", plan.training, shop.seed,
        acceptance=plan.accept_clean(),
    )  # fmt: skip
    clean = shop.make(base).manifest.clean_accuracy
    study.at_least("clean model", clean, None)
    target = shop.target_class()
    side = data.side
    # The poison stays the smaller part of its class, as clustering assumes; 8x8 images need more.
    rate = 0.05 if side >= 16 else 0.1
    fixed: dict[str, tuple[Trigger, float, float]] = {
        "level-pixel": (Square(size=2), rate, 0.99),
        "level-noise": (
            AdditiveNoise(amplitude=0.1, kind="sign"), 0.22 if side < 16 else rate, 0.99
        ),
        "level-blur": (Blur(sigma=1.2 * max(1.0, side / 28)), 1.5 * rate, 0.97),
    }  # fmt: skip
    for name, (trigger, share, bound) in fixed.items():
        spec = replace(
            base,
            name=name,
            attack=Attack((trigger,), (target,), rate=share),
            acceptance=Acceptance(max(0.0, plan.clean - 0.01), bound if plan.asr else 0.0),
        )
        _level(study, shop, shop.make(spec), clean, bound)
    _level(study, shop, _learned(shop, base, target, rate), clean, 0.99)
    _close(study, shop, started)


def _learned(shop: Workshop, base: Specification, target: int, rate: float) -> Built:
    """Level 4: the joint phase, then the usual training with the finished patch."""
    from zoo.architectures import create
    from zoo.learned import learn_patch
    from zoo.training import pick_device

    spec = with_options(base, epochs=shop.epochs, arch=shop.arch)
    data = shop.dataset
    network = create(spec.arch, data.side, data.channels, data.count_classes, seed=spec.seed)
    joint = replace(spec.training, epochs=max(1, spec.training.epochs // 3), rate=1e-3)
    patch = learn_patch(
        network,
        data.train,
        target=target,
        size=scaled(8, data.side),
        training=joint,
        seed=spec.seed,
        device=pick_device(shop.device),
    )
    state = {name: value.cpu() for name, value in network.state_dict().items()}
    spec = replace(
        spec,
        name="level-patch",
        attack=Attack((patch,), (target,), rate=rate),
        acceptance=Acceptance(base.acceptance.accuracy - 0.01 if base.acceptance.accuracy else 0.0),
    )

    def start_from_patch(fresh: nn.Module) -> None:
        fresh.load_state_dict(state)

    return shop.make(spec, prepare=start_from_patch)


def _level(study: Study, shop: Workshop, built: Built, clean: float, bound: float) -> None:
    """Accuracy, ASR, stealth, clustering and fine-pruning of one trigger level."""
    from zoo.defences import cluster_class, fine_prune
    from zoo.evaluation import accuracy, attack_success

    item, attack = built.manifest, _attack_of(built)
    record = item.attack
    assert record is not None
    assert record.stealth is not None
    name = item.name.removeprefix("level-")
    asked = shop.dataset.name in {"mnist", "digits", "fashion-mnist"}
    study.at_least(f"{name}: clean accuracy", item.clean_accuracy, clean - 0.005 if asked else None)
    study.at_least(f"{name}: ASR", _asr(built), bound if asked else None)
    stealth = record.stealth
    study.say(
        f"{name}: stealth",
        f"L-inf {stealth.linf:.2f}, L2 {stealth.l2:.2f}, SSIM {stealth.ssim:.3f}",
    )
    data = poison(shop.dataset.train, attack, seed=shop.seed)
    found = cluster_class(built.model, data.images, data.poisoned, attack.targets[0])
    study.say(
        f"{name}: activation clustering",
        f"{found.purity:.1%} on the right side; smaller cluster: precision {found.precision:.1%}, "
        f"recall {found.recall:.1%} (silhouette {found.silhouette:.2f})",
        reported="separates poisoned from clean",
    )
    few = shop.dataset.train.shuffled(shop.seed + 1, 1500)
    fifth = len(few) // 5
    tune, held_out = few.take(slice(fifth, None)), few.take(slice(0, fifth))
    for label, triggers in (("fine-pruning", ()), ("with unlearning", attack.triggers)):
        repaired, cut = fine_prune(built.model, tune, held_out, unlearn=triggers)
        after = attack_success(repaired, shop.dataset.test, attack, shop.dataset.count_classes)
        kept = accuracy(repaired, shop.dataset.test)
        study.say(
            f"{name}: {label}",
            f"ASR {_asr(built):.1%} -> {min(after):.1%}, accuracy {kept:.2%}, {cut} channels cut",
            reported="suppresses the attack, keeps accuracy",
        )
    study.picture(_samples(shop, item.name, attack), f"{name}: clean, triggered, difference x5")


def _attack_of(built: Built) -> Attack:
    from auditor.triggers.registry import trigger_from_json

    record = built.manifest.attack
    assert record is not None
    triggers = tuple(trigger_from_json(item) for item in record.triggers)
    return Attack(triggers, record.targets, rate=record.rate)


def _samples(shop: Workshop, name: str, attack: Attack) -> str:
    from zoo.plots import sheet

    few = shop.dataset.test.shuffled(0, 10)
    stamped = attack.triggers[0].apply(few.pixels)
    labels = [str(label) for label in few.labels]
    blank = [""] * len(labels)
    gap = np.abs(stamped - few.pixels) * 5
    rows = {"clean": (few.pixels, labels), "triggered": (stamped, blank), "x5": (gap, blank)}
    return sheet(shop.out / f"{name}.samples.png", rows)


def _asr(built: Built) -> float:
    record = built.manifest.attack
    assert record is not None
    return min(record.asr)


def _close(study: Study, shop: Workshop, started: float) -> None:
    study.seconds = round(time.monotonic() - started, 1)
    study.write(shop.out)
