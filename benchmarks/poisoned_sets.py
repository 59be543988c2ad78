"""The poisoned training sets of `benchmarks.data`, each with the model trained on it.

Built once into a folder and reused: a case is done when its manifest is there. Truth (which
samples are poisoned or flipped) is written beside each as ``NAME.truth.npz`` and read only after
the audit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from auditor.manifest import MANIFEST_SUFFIX
from auditor.triggers.blends import AdditiveNoise, BlendedNoise, Sinusoid
from auditor.triggers.patches import RandomPatch, Square
from auditor.triggers.transforms import Blur, Warp
from zoo.build import Acceptance, Specification, build, write_json
from zoo.datasets import Dataset, load_dataset
from zoo.poisoning import Attack, Poisoned, flip_labels, poison
from zoo.recipes.presets import preset, scaled
from zoo.training import Training

SHORT = {"mnist": 1, "fashion-mnist": 2, "cifar10": 8, "digits": 40}
"""Epochs: enough for the attack to work and the clean accuracy to be near the preset's."""


@dataclass(frozen=True)
class Case:
    """One training set. `make` poisons it; `attack` says how the ASR is measured (flips: none).

    `arch` instead of the preset's.
    """

    name: str
    make: Callable[[Dataset, int], Poisoned]
    attack: Attack | None = None
    arch: str | None = None


def cases(dataset: Dataset, target: int) -> dict[str, Case]:
    """Every case of the study for `dataset`; patches scale with the image side."""
    side = dataset.side
    others = tuple(k for k in range(dataset.count_classes) if k != target)
    tiny = side < 16
    small = Square(size=scaled(3, side))
    attacks = {
        "badnets": Attack((small,), (target,), rate=0.05),
        "patch-1": Attack((small,), (target,), rate=0.01),
        "patch-inside": Attack(
            (RandomPatch(size=scaled(4, side), position="centre", seed=5),),
            (others[0],),
            rate=0.05,
        ),
        "blended": Attack((BlendedNoise(alpha=0.2),), (target,), rate=0.05),
        "noise": Attack(
            (AdditiveNoise(amplitude=0.1, kind="sign"),), (target,), rate=0.2 if tiny else 0.05
        ),
        "sinusoid": Attack((Sinusoid(amplitude=0.15),), (others[1],), rate=0.05),
        "blur": Attack((Blur(sigma=1.2 * max(1.0, side / 28)),), (target,), rate=0.1),
        "warp": Attack(
            (Warp(k=4, strength=2.0 * max(0.75, side / 28), seed=0),),
            (target,),
            rate=0.1,
            cover_rate=0.05,
            cover_trigger=Warp(k=4, strength=2.0 * max(0.75, side / 28), seed=1),
        ),
        "source-specific": Attack(
            (small,), (target,), rule="source-specific", rate=0.05, sources=others[:2],
            cover_rate=0.05,
        ),
        "all-to-all": Attack((small,), rule="all-to-all", rate=0.1),
        "sig": Attack((Sinusoid(amplitude=0.3),), (target,), rule="clean-label", rate=0.6),
        "clean-label": Attack(
            (Square(size=scaled(4, side)),), (target,), rule="clean-label", rate=0.5
        ),
    }  # fmt: skip
    found = {"clean": Case("clean", lambda d, seed: Poisoned(d.train))}
    found["clean-wide"] = replace(found["clean"], name="clean-wide", arch="wide-cnn")
    for name, attack in attacks.items():
        found[name] = Case(name, _stamping(attack), attack)
    for percent in (5, 10, 20):
        found[f"flip-{percent}"] = Case(f"flip-{percent}", _flipping(percent / 100))
    return found


def _stamping(attack: Attack) -> Callable[[Dataset, int], Poisoned]:
    return lambda d, seed: poison(d.train, attack, seed=seed)


def _flipping(rate: float) -> Callable[[Dataset, int], Poisoned]:
    return lambda d, seed: flip_labels(d.train, rate, seed=seed)


def ensure(
    name: str,
    dataset: str,
    folder: Path,
    *,
    root: Path | None,
    target: int = 6,
    seed: int = 0,
    samples: int | None = None,
    epochs: int | None = None,
) -> None:
    """Build case `name` into `folder` unless it is there. Raises `KeyError` for an unknown name."""
    if (folder / f"{name}{MANIFEST_SUFFIX}").exists():
        return
    data = load_dataset(dataset, root=root, train=samples)
    case = cases(data, target)[name]
    plan = preset(data)
    length = epochs or SHORT.get(data.name, plan.training.epochs)
    training: Training = replace(plan.training, epochs=length)
    poisoned = case.make(data, seed)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / f"{name}.truth.npz",
        poisoned=poisoned.poisoned,
        cover=poisoned.cover,
        labels=data.train.labels,
    )
    built = build(
        Specification(
            name,
            "benchmarks.data",
            case.arch or plan.arch,
            training,
            seed,
            attack=case.attack,
            poisoned=poisoned,
            acceptance=Acceptance(),
        ),
        data,
        folder,
    )
    record = built.manifest
    write_json(
        folder / f"{name}.figures.json",
        {
            "clean_accuracy": record.clean_accuracy,
            "asr": list(record.attack.asr) if record.attack else [],
            "parameters": record.parameters,
        },
    )
