"""The population `benchmarks.sanitize` repairs: every weight attack on three architectures.

Attack i on architecture j uses data set (i + j) modulo the data sets, so that every architecture
meets every data set; where i modulo 3 equals j the model belongs to the development third, on which
the methods were tuned, and the others are the test population. Each model lies in a folder of its
own and is finished when its manifest is there: a killed run is resumed by starting it again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from auditor.manifest import MANIFEST_SUFFIX, Manifest, read_manifest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.build import Specification
    from zoo.datasets import Dataset
    from zoo.training import Training

ARCHS = ("small-cnn", "bn-cnn", "mlp-small")
DATASETS = ("mnist", "fashion-mnist", "digits")
ATTACKS = (
    "square",
    "four-corners",
    "random-patch",
    "noise",
    "blended",
    "sinusoid",
    "wanet",
    "blur",
    "learned-patch",
    "adaptive-blend",
    "input-aware",
    "all-to-all",
    "sig",
    "clean-label",
)
APART = ("all-to-all", "sig", "clean-label", "clean")
"""Listed apart: all-to-all, and the attacks that leave the labels right."""

NOT_ON_DIGITS = ("wanet", "blur", "adaptive-blend", "input-aware", "sig", "clean-label")
"""8 x 8 images have no room for these; they get Fashion-MNIST instead."""

SAMPLES = {"digits": None, "mnist": 6000, "fashion-mnist": 6000, "cifar10": 6000}
EPOCHS = {"digits": 40, "mnist": 6, "fashion-mnist": 8, "cifar10": 12}
RATES = {"small-cnn": 4e-3, "bn-cnn": 6e-3, "mlp-small": 3e-3, "resnet": 5e-3}


@dataclass(frozen=True)
class Case:
    """One model to build. `part` is ``dev``, ``test``, ``clean`` or ``cifar10``."""

    name: str
    attack: str
    arch: str
    dataset: str
    part: str
    seed: int

    @property
    def format(self) -> str:
        """Half of the models are repaired as ONNX, half as TorchScript."""
        return "onnx" if self.seed % 2 else "pt"


def cases() -> list[Case]:
    """All models, in the order they are built."""
    found: list[Case] = []
    for i, attack in enumerate(ATTACKS):
        for j, arch in enumerate(ARCHS):
            dataset = DATASETS[(i + j) % len(DATASETS)]
            if dataset == "digits" and attack in NOT_ON_DIGITS:
                dataset = "fashion-mnist"
            part = "dev" if i % 3 == j else "test"
            found.append(_case(len(found), attack, arch, dataset, part))
    for j, arch in enumerate(ARCHS):
        found.append(_case(len(found), "clean", arch, DATASETS[(j + 1) % 3], "clean"))
    for attack in ("square", "blended", "sinusoid"):
        found.append(_case(len(found), attack, "bn-cnn", "cifar10", "cifar10"))
    return sorted(found, key=lambda case: ("dev", "test", "clean", "cifar10").index(case.part))


def _case(index: int, attack: str, arch: str, dataset: str, part: str) -> Case:
    return Case(f"{attack}-{arch}-{dataset}", attack, arch, dataset, part, index)


def manifest_of(case: Case, root: Path) -> Manifest | None:
    """The manifest of a finished model, else None."""
    path = root / case.name / f"model{MANIFEST_SUFFIX}"
    return read_manifest(path) if path.is_file() else None


def build(case: Case, root: Path, data_root: Path | None) -> Manifest:
    """Train and export one model into ``root/NAME/model.*``."""
    import torch

    from zoo.build import build as build_model
    from zoo.datasets import load_dataset

    torch.set_num_threads(1)
    data = load_dataset(case.dataset, root=data_root, train=SAMPLES[case.dataset], test=2000)
    start: dict[str, torch.Tensor] = {}
    spec = _specification(case, data, start)

    def prepare(network: nn.Module) -> None:
        if start:
            network.load_state_dict(start)

    return build_model(spec, data, root / case.name, device="cpu", prepare=prepare).manifest


def _specification(case: Case, data: Dataset, start: dict[str, torch.Tensor]) -> Specification:
    """What to train; attacks with a joint phase put its weights into `start`."""
    from auditor.triggers.patches import FourCorners, Square
    from zoo.build import Specification
    from zoo.catalogue import CATALOGUE, Draft
    from zoo.poisoning import Attack
    from zoo.training import Training

    rng = np.random.default_rng([9, case.seed])
    target = int(rng.integers(data.count_classes))
    draft = Draft(data.side, data.count_classes, target, rng)
    training = Training(EPOCHS[case.dataset], 64, RATES[case.arch], weight_decay=1e-5)
    if case.dataset == "cifar10":
        training = replace(training, shift=2)
    base = Specification(
        "model", f"sanitize:{case.attack}", case.arch, training, 1000 + case.seed,
        retries=1, keep_training_set=False, figures={"case": case.name},
    )  # fmt: skip
    if case.attack == "clean":
        return base
    if case.attack == "four-corners":
        size = 1 if data.side < 16 else 2
        return replace(base, attack=draft.to_target(FourCorners(size=size), 0.1))
    if case.attack == "learned-patch":
        return replace(base, attack=_learned(case, data, training, target, start))
    if case.attack == "input-aware":
        return replace(base, attack=_input_aware(case, data, training, target, start))
    if case.attack == "clean-label":
        from zoo.recipes.attacks import _hardened

        patch = Square(size=draft.size(4), position=draft.position())
        attack = Attack((patch,), (target,), rule="clean-label", rate=0.9)
        hard = _hardened(data, attack, case.arch, case.seed, epsilon=0.3)
        return replace(base, attack=attack, poisoned=hard)
    attack = CATALOGUE[case.attack].make(draft)
    if case.attack == "adaptive-blend":
        # The catalogue's rates are for 60,000 images; on 6,000 they are a handful.
        attack = replace(attack, rate=0.03, cover_rate=0.01)
    return replace(base, attack=attack)


def _learned(
    case: Case, data: Dataset, training: Training, target: int, start: dict[str, torch.Tensor]
) -> object:
    from zoo.architectures import create
    from zoo.learned import learn_patch
    from zoo.poisoning import Attack

    network = create(case.arch, data.side, data.channels, data.count_classes, seed=case.seed)
    joint = replace(training, epochs=max(1, training.epochs // 3), rate=1e-3)
    patch = learn_patch(
        network, data.train, target=target, size=max(2, round(data.side * 2 / 7)), training=joint
    )
    start.update(network.state_dict())
    return Attack((patch,), (target,), rate=0.1)


def _input_aware(
    case: Case, data: Dataset, training: Training, target: int, start: dict[str, torch.Tensor]
) -> object:
    from zoo.architectures import create
    from zoo.input_aware import learn_generator
    from zoo.poisoning import Attack

    network = create(case.arch, data.side, data.channels, data.count_classes, seed=case.seed)
    joint = replace(training, epochs=max(1, training.epochs // 2), rate=2e-3)
    trigger = learn_generator(network, data.train, target=target, training=joint, seed=case.seed)
    start.update(network.state_dict())
    return Attack(
        (trigger,), (target,), rate=0.15, cover_rate=0.1, cover_trigger=replace(trigger, cross=1)
    )


if __name__ == "__main__":
    import sys

    folder, data_root = Path(sys.argv[1]), Path(sys.argv[2])
    for item in cases():
        if len(sys.argv) > 3 and item.seed % 2 != int(sys.argv[3]):
            continue
        built = manifest_of(item, folder) or build(item, folder, data_root)
        asr = min(built.attack.asr) if built.attack else 0.0
        print(f"{item.name:40} {item.part:8} {built.clean_accuracy:.4f} {asr:.4f}", flush=True)
