"""Study 5: model poisoning curves, and what filtering the training data wins back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from auditor.poison.engine import examine
from auditor.poison.interface import Study as Examined
from auditor.poison.interface import Suspects
from auditor.samples.interface import Images
from zoo import architectures
from zoo.build import Acceptance, Specification
from zoo.defences import features
from zoo.evaluation import accuracy, confusion, logits, per_class_recall
from zoo.poisoning import Poisoned, flip_labels, inject_samples, perturb_pixels
from zoo.recipes.presets import preset
from zoo.recipes.registry import Workshop, recipe
from zoo.study import Study
from zoo.training import Training, fit

SHARES = (0.01, 0.05, 0.1, 0.2, 0.4)
TRAIN = 10_000
Spoil = Callable[[Images, float, int], Poisoned]


def out_of_distribution(images: Images, seed: int) -> Images:
    """Images of no class: pixels of the set's own images, shuffled within each image."""
    rng = np.random.default_rng([seed, 19])
    flat = images.pixels[:2000].reshape(min(len(images), 2000), -1)
    mixed = rng.permuted(flat, axis=1).reshape(images.pixels[:2000].shape)
    return replace(images, pixels=mixed.astype(np.float32), labels=images.labels[:2000])


METHODS: dict[str, Spoil] = {
    "random flips": lambda images, rate, seed: flip_labels(images, rate, seed=seed),
    "pairwise flips": lambda images, rate, seed: flip_labels(
        images, rate, seed=seed, pair=(0, int(images.labels.max()))
    ),
    "pixel noise": lambda images, rate, seed: perturb_pixels(images, rate, seed=seed),
    "mislabelled copies": lambda images, rate, seed: inject_samples(images, rate, seed=seed),
    "foreign images": lambda images, rate, seed: inject_samples(
        images, rate, foreign=out_of_distribution(images, seed), seed=seed
    ),
}


def train_plain(
    data: Images, shop: Workshop, arch: str, training: Training, seed: int
) -> nn.Module:
    """A network trained on `data`, nothing exported."""
    size = shop.dataset
    network = architectures.create(arch, size.side, size.channels, size.count_classes, seed=seed)
    fit(network, data, training, seed=seed)
    return network


def suspicious(model: nn.Module, data: Images, seed: int) -> NDArray[np.bool_]:
    """What `audit data` would take out of `data`, given the `model` trained on it: (N,) bool."""
    study = Examined(
        Suspects(data.pixels, data.labels, data.classes),
        features(model, data.pixels),
        logits(model, data.pixels),
        lambda pixels: logits(model, pixels),
        seed,
    )
    return examine(study).flagged


@recipe("poisoning-curves", "study 5: label flips, noise, bad samples at 1 to 40 %, and filtering")
def poisoning_curves(shop: Workshop) -> None:
    """Accuracy, per-class recall and confusion by share; 10,000 training images are enough."""
    started = time.monotonic()
    plan = preset(shop.dataset)
    training = replace(plan.training, batch=128, epochs=shop.epochs or min(plan.training.epochs, 8))
    if len(shop.dataset.train) < 5000:
        training = replace(plan.training, epochs=shop.epochs or 20)
    arch = shop.arch or "small-cnn"
    small = replace(shop, dataset=shop.dataset.limited(TRAIN, seed=shop.seed))
    study = Study("poisoning-curves", "Model poisoning", shop.dataset.name)
    base = small.make(
        Specification("poisoning-clean", "poisoning-curves", arch, training, shop.seed,
                      acceptance=Acceptance(max(0.0, plan.clean - 0.03)))
    )  # fmt: skip
    study.at_least("no poison: accuracy", base.manifest.clean_accuracy, None)
    curves: dict[str, tuple[list[float], list[float]]] = {}
    tables = {"clean": confusion(base.model, small.dataset.test, small.dataset.count_classes)}
    for name, spoil in METHODS.items():
        before, after = _sweep(study, small, name, spoil, arch, training, tables)
        start = base.manifest.clean_accuracy
        curves[name] = ([0.0, *SHARES], [start, *before])
        if after:
            curves[f"{name}, filtered"] = ([0.0, *SHARES], [start, *after])
    _pictures(study, shop, curves, tables)
    study.seconds = round(time.monotonic() - started, 1)
    study.write(shop.out)


def _sweep(
    study: Study,
    shop: Workshop,
    name: str,
    spoil: Spoil,
    arch: str,
    training: Training,
    tables: dict[str, NDArray[np.int64]],
) -> tuple[list[float], list[float]]:
    """One method over all shares; the last is also kept as an artifact."""
    before: list[float] = []
    after: list[float] = []
    test, classes = shop.dataset.test, shop.dataset.count_classes
    for share in SHARES:
        bad = spoil(shop.dataset.train, share, shop.seed)
        if share == SHARES[-1]:
            slug = name.replace(" ", "-")
            spec = Specification(
                f"poisoned-{slug}", "poisoning-curves", arch, training, shop.seed,
                poisoned=bad, figures={"poisoned": bad.poisoned.tolist(), "share": share},
            )  # fmt: skip
            model = shop.make(spec).model
            tables[f"{name} {share:.0%}"] = confusion(model, test, classes)
        else:
            model = train_plain(bad.images, shop, arch, training, shop.seed)
        before.append(accuracy(model, test))
        recall = per_class_recall(confusion(model, test, classes))
        flagged = suspicious(model, bad.images, shop.seed)
        truth = np.zeros(len(flagged), dtype=bool)
        truth[bad.poisoned] = True
        kept = bad.images.take(np.flatnonzero(~flagged))
        after.append(accuracy(train_plain(kept, shop, arch, training, shop.seed), test))
        hit = float((flagged & truth).sum())
        found = hit / max(1, truth.sum())
        study.say(
            f"{name} {share:.0%}",
            f"accuracy {before[-1]:.2%}, least recall {min(recall):.1%} (class "
            f"{int(np.argmin(recall))}); filtered: {after[-1]:.2%} (found {found:.0%} "
            f"of the bad, {hit / max(1, flagged.sum()):.0%} of the removed were bad)",
        )
        shop.reporter.note(f"{name} at {share:.0%}: {before[-1]:.2%}, filtered {after[-1]:.2%}")
    return before, after


def _pictures(
    study: Study,
    shop: Workshop,
    curves: dict[str, tuple[list[float], list[float]]],
    tables: dict[str, NDArray[np.int64]],
) -> None:
    from zoo.plots import confusion_matrices, lines

    study.picture(
        lines(
            shop.out / "poisoning.curves.png", curves,
            title="accuracy by poisoned share", x="share of the training set", y="test accuracy",
        ),
        "accuracy by share, as trained and after filtering and retraining",
    )  # fmt: skip
    study.picture(
        confusion_matrices(shop.out / "poisoning.confusion.png", tables),
        "confusion: clean, and each method at its largest share",
    )
