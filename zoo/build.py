"""Build one zoo model from its specification: poison, train, evaluate, export, write the manifest.

The same `Specification` drives recipes and populations. Nothing is kept silently: a model below its
own acceptance is retrained with another seed, and recorded as not accepted if it stays below.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from auditor.manifest import (
    MANIFEST_SUFFIX,
    AttackRecord,
    Kind,
    Manifest,
    Transform,
)
from auditor.samples.interface import Images
from zoo import architectures, evaluation
from zoo.datasets import Dataset
from zoo.export import export
from zoo.poisoning import Attack, Poisoned, poison
from zoo.training import Epoch, Normalised, OnEpoch, Training, fit, pick_device

Robustness = tuple[tuple[str, float, int], ...]
"""(name, epsilon, steps): ``("fgsm@0.25", 0.25, 1)``."""


@dataclass(frozen=True)
class Acceptance:
    """What a model must reach to be ground truth; a bound of 0 asks nothing."""

    accuracy: float = 0.0
    asr: float = 0.0
    robust: Mapping[str, float] = field(default_factory=dict)

    def shortfalls(
        self, accuracy: float, asr: tuple[float, ...], robust: Mapping[str, float]
    ) -> tuple[str, ...]:
        """A sentence for every bound that was missed."""
        missed = []
        if accuracy < self.accuracy:
            missed.append(f"clean accuracy {accuracy:.4f} is below {self.accuracy:.4f}")
        if asr and min(asr) < self.asr:
            missed.append(f"attack success {min(asr):.4f} is below {self.asr:.4f}")
        missed += [
            f"{name} accuracy {robust[name]:.4f} is below {bound:.4f}"
            for name, bound in self.robust.items()
            if robust[name] < bound
        ]
        return tuple(missed)


IDENTITY = Transform()


@dataclass(frozen=True)
class Specification:
    """One model to build.

    `poisoned` is a ready training set, used instead of poisoning the data set with `attack` (which
    then only says how the attack is measured).
    """

    name: str
    recipe: str
    arch: str
    training: Training
    seed: int = 0
    attack: Attack | None = None
    poisoned: Poisoned | None = None
    transform: Transform = IDENTITY
    acceptance: Acceptance = Acceptance()
    robustness: Robustness = ()
    retries: int = 1
    keep_training_set: bool = True
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """The word of the manifest."""
        hardened = self.training.adversary != "none"
        if self.attack is not None:
            return "adversarial-backdoored" if hardened else "backdoored"
        if self.poisoned is not None:
            return "poisoned"
        return "adversarial" if hardened else "clean"


@dataclass(frozen=True)
class Built:
    """A finished model: `network` takes transformed input, `model` takes 0..1 pixels."""

    network: nn.Module
    model: nn.Module
    manifest: Manifest
    history: list[Epoch]


def build(
    spec: Specification,
    dataset: Dataset,
    out: Path,
    *,
    on_epoch: OnEpoch | None = None,
    device: str = "auto",
    prepare: Callable[[nn.Module], None] | None = None,
    soft: torch.Tensor | None = None,
) -> Built:
    """Build `spec` into `out`: ``NAME.onnx``, ``.pt``, ``.manifest.json`` and ``.train.npz``.

    `prepare` may change the freshly initialised network before training; `soft` are probabilities
    to learn instead of the labels. Raises `ValueError` for a
    specification that does not fit the data, `ExportMismatch` when a file computes something else.
    """
    started = time.monotonic()
    data = _training_set(spec, dataset)
    chosen = pick_device(device)
    for attempt in range(spec.retries + 1):
        seed = spec.seed + 100_003 * attempt
        network = architectures.create(
            spec.arch, dataset.side, dataset.channels, dataset.count_classes, seed=seed
        )
        if prepare is not None:
            prepare(network)
        model = Normalised(network, spec.transform)
        history = fit(
            model,
            data.images,
            spec.training,
            seed=seed,
            on_epoch=on_epoch,
            test=dataset.test,
            soft=soft,
            device=chosen,
        )
        clean, asr, robust = measure(spec, model, dataset, device=chosen)
        shortfalls = spec.acceptance.shortfalls(clean, asr, robust)
        if not shortfalls:
            break
    model.to("cpu")
    return finish(
        spec, dataset, out, network, model, data, history, (clean, asr, robust),
        shortfalls=shortfalls, seed=seed, seconds=time.monotonic() - started,
    )  # fmt: skip


def measure(
    spec: Specification, model: nn.Module, dataset: Dataset, *, device: str = "cpu"
) -> tuple[float, tuple[float, ...], dict[str, float]]:
    """Clean accuracy, ASR per trigger, and accuracy under each attack of `spec.robustness`."""
    clean = evaluation.accuracy(model, dataset.test, device=device)
    asr: tuple[float, ...] = ()
    if spec.attack is not None:
        asr = evaluation.attack_success(
            model, dataset.test, spec.attack, dataset.count_classes, device=device
        )
    robust = {
        name: evaluation.robust_accuracy(
            model, dataset.test.shuffled(0, 2000), epsilon, steps=steps, device=device
        )
        for name, epsilon, steps in spec.robustness
    }
    return clean, asr, robust


def finish(
    spec: Specification,
    dataset: Dataset,
    out: Path,
    network: nn.Module,
    model: nn.Module,
    data: Poisoned,
    history: list[Epoch],
    measured: tuple[float, tuple[float, ...], dict[str, float]],
    *,
    shortfalls: tuple[str, ...],
    seed: int,
    seconds: float,
) -> Built:
    """Export a trained network and write its training set and manifest; the manifest comes last."""
    out.mkdir(parents=True, exist_ok=True)
    # A manifest that outlived an interrupted rebuild would vouch for other files.
    (out / f"{spec.name}{MANIFEST_SUFFIX}").unlink(missing_ok=True)
    clean, asr, robust = measured
    artifacts = export(
        network, transformed(dataset.test.pixels[:16], spec.transform), out, spec.name
    )
    kept = None
    if spec.keep_training_set:
        kept = f"{spec.name}.train.npz"
        write_training_set(out / kept, data.images)
    manifest = Manifest(
        name=spec.name,
        kind=spec.kind,
        recipe=spec.recipe,
        seed=seed,
        architecture=spec.arch,
        parameters=architectures.parameter_count(network),
        dataset=dataset.hint(spec.transform),
        classes=dataset.classes,
        train_samples=len(data.images),
        training_set=kept,
        training=spec.training.to_json(),
        attack=_attack_record(spec, data, dataset.test, asr),
        clean_accuracy=clean,
        robust_accuracy=robust,
        figures=dict(spec.figures),
        curve=tuple(epoch.to_json() for epoch in history),
        accepted=not shortfalls,
        shortfalls=shortfalls,
        artifacts=artifacts,
        seconds=round(seconds, 3),
        environment={
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": str(torch.get_num_threads()),
        },
    )
    write_json(out / f"{spec.name}{MANIFEST_SUFFIX}", manifest.model_dump(mode="json"))
    return Built(network, model, manifest, history)


def transformed(pixels: np.ndarray[Any, Any], transform: Transform) -> np.ndarray[Any, Any]:
    """0..1 pixels as the exported network wants them."""
    mean = np.asarray(transform.mean, np.float32).reshape(1, -1, 1, 1)
    std = np.asarray(transform.std, np.float32).reshape(1, -1, 1, 1)
    result = (pixels * np.float32(transform.scale) - mean) / std
    return np.ascontiguousarray(result, dtype=np.float32)


def write_training_set(path: Path, images: Images) -> None:
    """``x`` uint8 (N, C, H, W), ``y`` int64 (N,): exactly what the network was trained on."""
    partial = path.with_name(f".{path.name}.part")
    with partial.open("wb") as stream:
        np.savez_compressed(
            stream, x=np.rint(images.pixels * 255.0).astype(np.uint8), y=images.labels
        )
    partial.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write through a temporary file; no NaN gets in."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def _training_set(spec: Specification, dataset: Dataset) -> Poisoned:
    if spec.attack is None:
        return spec.poisoned or Poisoned(dataset.train)
    outside = [t for t in spec.attack.targets if not 0 <= t < dataset.count_classes]
    if outside:
        raise ValueError(
            f"target class {outside[0]} does not exist: {dataset.name} has classes 0 to "
            f"{dataset.count_classes - 1}"
        )
    return spec.poisoned or poison(dataset.train, spec.attack, seed=spec.seed)


def _attack_record(
    spec: Specification, data: Poisoned, test: Images, asr: tuple[float, ...]
) -> AttackRecord | None:
    if spec.attack is None:
        return None
    attack = spec.attack
    return AttackRecord(
        rule=attack.rule,
        triggers=tuple(trigger.to_json() for trigger in attack.triggers),
        targets=attack.targets,
        sources=attack.sources,
        rate=attack.rate,
        cover_rate=attack.cover_rate,
        poisoned=tuple(data.poisoned.tolist()),
        cover=tuple(data.cover.tolist()),
        asr=asr,
        stealth=evaluation.stealth(attack, test),
    )


def with_options(
    spec: Specification, *, epochs: int | None = None, arch: str | None = None
) -> Specification:
    """`spec` with the command line's overrides."""
    if epochs is not None:
        spec = replace(spec, training=replace(spec.training, epochs=epochs))
    return replace(spec, arch=arch) if arch is not None else spec
