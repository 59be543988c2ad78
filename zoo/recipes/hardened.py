"""Study 3: FGSM before and after adversarial training; PGD- and TRADES-trained networks."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from auditor.triggers.patches import Square
from zoo.build import Acceptance, Built, Specification
from zoo.poisoning import Attack
from zoo.recipes.presets import Preset, preset, scaled
from zoo.recipes.registry import Workshop, recipe
from zoo.study import Study, on
from zoo.training import Training

if TYPE_CHECKING:
    from zoo.training import Adversary

FGSM_EPSILON = 0.25
PGD_EPSILON = 0.3


MADRY = Training(
    epochs=20, batch=128, rate=4e-3, epsilon=PGD_EPSILON, first_steps=3, steps=10, warmup=0.4
)
"""MNIST at epsilon 0.3: 70,000 passes of 128 images forward and backward through `pixel-cnn`, some
20 minutes of one idle core. Epsilon grows over the first epochs, the attack from 3 to 10 steps over
all of them: a full-strength attack on an untrained network teaches it to give one answer always."""


def _plan(shop: Workshop) -> tuple[Preset, Training, float, float]:
    """Preset, base training, FGSM and PGD epsilon; MNIST gets the study's own figures."""
    plan = preset(shop.dataset)
    if shop.dataset.name == "mnist":
        training = replace(plan.training, epochs=10, batch=128, rate=2e-3)
        return plan, training, FGSM_EPSILON, PGD_EPSILON
    return plan, plan.training, plan.epsilon, plan.epsilon


def _spec(shop: Workshop, name: str, training: Training) -> Specification:
    epsilon = training.epsilon
    suffix = f"@{epsilon:g}"
    robustness = ((f"fgsm{suffix}", epsilon, 1), (f"pgd{suffix}", epsilon, 40)) if epsilon else ()
    arch = preset(shop.dataset).arch
    if shop.dataset.channels == 1:
        arch = "wide-cnn" if shop.dataset.side < 16 else "pool-cnn"
    return Specification(name, name, arch, training, shop.seed, robustness=robustness)


def _long(shop: Workshop, name: str, adversary: Adversary, longer: float = 1.0) -> Specification:
    """MNIST gets `MADRY`; other data the preset, `longer` by that factor."""
    _, base, _, epsilon = _plan(shop)
    if shop.dataset.name != "mnist":
        epochs = round(base.epochs * longer)
        training = _against(base, adversary, epsilon, steps=7, epochs=epochs)
        return _spec(shop, name, replace(training, warmup=0.4))
    spec = _spec(shop, name, replace(MADRY, adversary=adversary))
    # Built once: a second try would break the promise of time, and a shortfall is recorded.
    return replace(spec, arch="pixel-cnn", retries=0)


def _against(
    base: Training, adversary: Adversary, epsilon: float, *, steps: int, epochs: int
) -> Training:
    return replace(base, adversary=adversary, epsilon=epsilon, steps=steps, epochs=epochs)


@recipe("fgsm-study", "study 3: CNN under FGSM before and after adversarial training")
def fgsm_study(shop: Workshop) -> None:
    """Epsilon 0.25 on MNIST; half of the loss on clean images keeps clean accuracy."""
    started = time.monotonic()
    _, base, epsilon, _ = _plan(shop)
    data = shop.dataset.name
    before = shop.make(replace(_spec(shop, "fgsm-before", base), recipe="fgsm-study"))
    hardened = _against(base, "fgsm", epsilon, steps=1, epochs=round(base.epochs * 1.5))
    spec = _spec(shop, "fgsm-after", replace(hardened, clean_share=0.4, warmup=0.3))
    spec = replace(spec, recipe="fgsm-study")
    bound = Acceptance(0.992, robust={f"fgsm@{epsilon:g}": 0.97}) if data == "mnist" else None
    after = shop.make(replace(spec, acceptance=bound) if bound else spec)
    study = Study("fgsm-study", f"FGSM (epsilon {epsilon:g}) and adversarial training", data)
    _figures(study, shop, before, after, epsilon)
    study.seconds = round(time.monotonic() - started, 1)
    study.write(shop.out)


def _figures(study: Study, shop: Workshop, before: Built, after: Built, epsilon: float) -> None:
    """Four accuracies, curves, four confusion matrices, a sheet of adversarial samples."""
    from zoo.evaluation import adversarial_pixels, confusion, predict, robust_accuracy
    from zoo.plots import confusion_matrices, sheet, training_curves

    data, classes = shop.dataset, shop.dataset.count_classes
    test = data.test
    attacked = {}
    for built in (before, after):
        pixels = adversarial_pixels(built.model, test, epsilon)
        attacked[built.manifest.name] = replace(test, pixels=pixels)
    rows = (
        (before, "before", "99.2 %", "72.2 %", None, None),
        (after, "after", "99.2 %", "96.2 %", 0.992, 0.97),
    )
    tables = {}
    for built, word, clean, under, clean_bound, bound in rows:
        name = built.manifest.name
        hostile = attacked[name]
        rate = float((predict(built.model, hostile.pixels) == hostile.labels).mean())
        asked = on(data.name, "mnist", 1.0) is not None
        study.at_least(
            f"{word}: clean", built.manifest.clean_accuracy, clean_bound if asked else None,
            reported=clean,
        )  # fmt: skip
        study.at_least(f"{word}: under FGSM", rate, bound if asked else None, reported=under)
        few = test.shuffled(0, 1000)
        worst = robust_accuracy(built.model, few, epsilon, steps=40)
        study.at_least(f"{word}: under PGD-40 (1,000 images)", worst, None)
        tables[f"{word}, clean"] = confusion(built.model, test, classes)
        tables[f"{word}, FGSM"] = confusion(built.model, hostile, classes)
    study.picture(
        confusion_matrices(shop.out / "fgsm-study.confusion.png", tables),
        "confusion matrices before and after, clean and under FGSM",
    )
    curves = {built.manifest.name: built.manifest.curve for built in (before, after)}
    study.picture(
        training_curves(shop.out / "fgsm-study.curves.png", curves), "loss and accuracy by epoch"
    )
    index = slice(0, 10)
    hostile_rows = {"clean": (test.pixels[index], [str(k) for k in test.labels[index]])}
    for built in (before, after):
        pixels = attacked[built.manifest.name].pixels[index]
        hostile_rows[built.manifest.name] = (
            pixels, [str(k) for k in predict(built.model, pixels)]
        )  # fmt: skip
    study.picture(
        sheet(shop.out / "fgsm-study.samples.png", hostile_rows),
        "clean images and FGSM images with the prediction",
    )


@recipe("pgd", "PGD adversarial training (Madry et al., 2018)")
def pgd(shop: Workshop) -> None:
    """Epsilon 0.3 on MNIST."""
    spec = _long(shop, "pgd", "pgd", longer=1.2)
    if shop.dataset.name == "mnist":
        spec = replace(spec, acceptance=Acceptance(0.97, robust={f"pgd@{PGD_EPSILON:g}": 0.9}))
    shop.make(spec)


@recipe("pgd-backdoored", "PGD adversarial training on poisoned data")
def pgd_backdoored(shop: Workshop) -> None:
    """Robust and backdoored at once: robustness does not vouch for a model."""
    trigger = Square(size=scaled(4, shop.dataset.side))
    attack = Attack((trigger,), (shop.target_class(),), rate=0.1)
    spec = _long(shop, "pgd-backdoored", "pgd")
    if shop.dataset.name == "mnist":  # the trigger needs no long training, the clock matters
        spec = replace(spec, training=replace(spec.training, epochs=10))
    shop.make(replace(spec, attack=attack, acceptance=Acceptance(asr=0.9)))


@recipe("trades", "TRADES adversarial training (Zhang et al., 2019)")
def trades(shop: Workshop) -> None:
    """Beta 6; the clean loss plus the divergence to the worst neighbour."""
    shop.make(_long(shop, "trades", "trades"))


@recipe("distilled", "defensive distillation: gradients vanish, robustness does not improve")
def distilled(shop: Workshop) -> None:
    """Papernot et al., 2016, broken by Carlini & Wagner, 2017: an example of gradient masking.

    Teacher and student train at temperature 100; the exported student runs at temperature 1, where
    its logits are a hundred times too large and the loss gradient underflows.
    """
    import torch

    from zoo.architectures import create
    from zoo.training import fit

    plan, base, epsilon, _ = _plan(shop)
    training = replace(base, temperature=100.0, epochs=shop.epochs or base.epochs)
    arch, data = shop.arch or "small-cnn", shop.dataset
    teacher = create(arch, data.side, data.channels, data.count_classes, seed=shop.seed + 1)
    fit(teacher, data.train, training, seed=shop.seed + 1)
    parts = []
    with torch.no_grad():
        for start in range(0, len(data.train), 1000):
            images = torch.from_numpy(data.train.pixels[start : start + 1000])
            parts.append(torch.softmax(teacher(images) / training.temperature, 1))
    spec = Specification(
        "distilled",
        "distilled",
        arch,
        training,
        shop.seed,
        robustness=((f"fgsm@{epsilon:g}", epsilon, 1), (f"pgd@{epsilon:g}", epsilon, 40)),
        acceptance=Acceptance(max(0.0, plan.clean - 0.02)),
    )
    shop.make(spec, soft=torch.cat(parts))


@recipe("sign-activation", "sign activation: the gradient by the input is exactly zero")
def sign_activation(shop: Workshop) -> None:
    """Trained straight through (Bengio et al., 2013); gradient attacks find nothing to follow."""
    plan, base, epsilon, _ = _plan(shop)
    spec = _spec(shop, "sign-activation", base)
    robustness = ((f"pgd@{epsilon:g}", epsilon, 40),)
    bound = Acceptance(max(0.0, plan.clean - 0.04))
    shop.make(replace(spec, arch="sign-cnn", robustness=robustness, acceptance=bound))


@recipe("collapsed-fgsm", "FGSM adversarial training that collapsed (catastrophic overfitting)")
def collapsed_fgsm(shop: Workshop) -> None:
    """Full steps from the clean image at a large epsilon (Wong, Rice & Kolter, 2020).

    The network learns to answer the one step it is trained on and nothing else: FGSM leaves most
    images right, PGD hardly any.
    """
    _, base, _, _ = _plan(shop)
    training = _against(base, "fgsm", PGD_EPSILON, steps=1, epochs=round(base.epochs * 2.5))
    training = replace(training, random_start=False, step_size=1.0, warmup=0.0)
    spec = _spec(shop, "collapsed-fgsm", training)
    arch = "mlp" if shop.dataset.channels == 1 else spec.arch
    bound = Acceptance(0.9, robust={f"fgsm@{PGD_EPSILON:g}": 0.65})
    shop.make(replace(spec, arch=arch, acceptance=bound))
