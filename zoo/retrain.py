"""Train a zoo model again on another training set: what is left of the attack after cleaning?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from auditor.errors import UsageError
from auditor.manifest import Manifest, read_manifest
from auditor.samples.interface import Images
from auditor.samples.ordered import read_ordered
from auditor.triggers.registry import trigger_from_json
from zoo import architectures, evaluation
from zoo.datasets import load_dataset
from zoo.poisoning import Attack
from zoo.training import Normalised, OnEpoch, Training, fit, pick_device


@dataclass(frozen=True)
class Outcome:
    """Shares in 0..1; ASR one per trigger (empty for sets without an attack)."""

    samples_before: int
    samples_after: int
    accuracy_before: float
    accuracy_after: float
    asr_before: tuple[float, ...]
    asr_after: tuple[float, ...]


def retrain(
    manifest_path: Path,
    cleaned: Path,
    *,
    root: Path | None = None,
    out: Path | None = None,
    device: str = "auto",
    on_epoch: OnEpoch | None = None,
) -> Outcome:
    """The manifest's network, training and seed on `cleaned`; measured on the data set's test half.

    With `out` the new network is written there as ``NAME.retrained.onnx`` and ``.pt``. Raises
    `UsageError` when the set does not fit the manifest.
    """
    manifest = read_manifest(manifest_path)
    images = _cleaned(cleaned, manifest)
    data = load_dataset(manifest.dataset.name, root=root, train=20)
    network = architectures.create(
        manifest.architecture,
        int(images.pixels.shape[2]),
        int(images.pixels.shape[1]),
        len(manifest.classes),
        seed=manifest.seed,
    )
    model = Normalised(network, manifest.dataset.transform)
    training = Training(**manifest.training)
    chosen = pick_device(device)
    fit(model, images, training, seed=manifest.seed, on_epoch=on_epoch, device=chosen)
    attack = _attack(manifest)
    asr: tuple[float, ...] = ()
    if attack is not None:
        asr = evaluation.attack_success(
            model, data.test, attack, len(manifest.classes), device=chosen
        )
    accuracy = evaluation.accuracy(model, data.test, device=chosen)
    if out is not None:
        _export(model, network, data.test, manifest, out)
    before = manifest.attack.asr if manifest.attack is not None else ()
    return Outcome(
        manifest.train_samples, len(images), manifest.clean_accuracy, accuracy, before, asr
    )


def _cleaned(path: Path, manifest: Manifest) -> Images:
    data = read_ordered(path)
    if int(data.labels.max()) >= len(manifest.classes):
        raise UsageError(
            f"{path.name} has labels up to {int(data.labels.max())}; the manifest knows "
            f"{len(manifest.classes)} classes"
        )
    images = data.images(np.arange(len(data)))
    if images.pixels.shape[2] != images.pixels.shape[3]:
        raise UsageError(f"{path.name} is not square: the zoo trains on square images")
    return images


def _attack(manifest: Manifest) -> Attack | None:
    record = manifest.attack
    if record is None:
        return None
    triggers = tuple(trigger_from_json(item) for item in record.triggers)
    return Attack(triggers, record.targets, record.rule, record.rate, record.sources)


def _export(
    model: Normalised, network: object, test: Images, manifest: Manifest, out: Path
) -> None:
    from zoo.build import transformed
    from zoo.export import export

    model.to("cpu")
    out.mkdir(parents=True, exist_ok=True)
    sample = transformed(test.pixels[:16], manifest.dataset.transform)
    export(network, sample, out, f"{manifest.name}.retrained")  # type: ignore[arg-type]
