"""Turn an artifact and samples into a `Classifier`, saying what was inferred and what was not.

One child serves one artifact: the session is built once and kept for later operations.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from auditor.artifacts.interface import Artifact, Runtime
from auditor.classifier import Classifier, Native, as_scores, pick_output
from auditor.errors import UnreadableSamples, UnsupportedArtifact
from auditor.findings import Json
from auditor.samples import candidates, inference
from auditor.samples.interface import Images
from auditor.samples.preprocessing import Overrides, Preprocessing

if TYPE_CHECKING:
    from auditor.twin.interface import Twin

_TOLERANCE = 1e-4


@dataclass(slots=True)
class Session:
    """What later operations need; `facts` are JSON for the report, `notices` sentences."""

    classifier: Classifier
    samples: Images | None
    training: Images | None
    facts: dict[str, Json] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


class NotAClassifier(UnsupportedArtifact):
    """The artifact runs but is no image classifier; dynamic checks are skipped."""

    kind = "not-a-classifier"


@dataclass(frozen=True, slots=True)
class Request:
    """What the parent asked for. `device` is ``cpu`` or ``cuda``."""

    path: Path
    overrides: Overrides
    samples: Images | None
    training: Images | None
    threads: int
    device: str
    preprocessing: Preprocessing | None = None


def open_session(request: Request, artifact: Artifact, runtime: Runtime) -> Session:
    """Infer the preprocessing, find the class scores, build and verify the twin.

    Raises `NotAClassifier`, or `UnreadableSamples` when the samples cannot fit the model.
    """
    notices: list[str] = []
    facts: dict[str, Json] = {}
    _require_image(runtime)
    if runtime.notice:
        notices.append(runtime.notice)
    samples, training = request.samples, request.training
    if samples is not None:
        chosen, samples, training = _infer(request, runtime, samples, facts, notices)
    else:
        chosen = request.preprocessing or _assume(runtime, request.overrides, notices)
    image = samples.pixels.shape[1:] if samples is not None else _image_shape(chosen)
    probe = _probe_images(samples, image)
    native = _native(runtime, chosen, probe)
    if samples is not None and int(samples.labels.max()) >= native.classes:
        raise UnreadableSamples(
            f"the samples have labels up to {int(samples.labels.max())} but the model has only "
            f"{native.classes} classes: check --data and its label order"
        )
    twin, reason = _twin(request, artifact, native, chosen, probe, facts)
    if twin is not None and _is_dense_map(twin, native.classes):
        raise NotAClassifier(
            "this is not an image classifier: its output is a spatial map of "
            f"{native.classes} values, not one score per class"
        )
    shape = (int(image[0]), int(image[1]), int(image[2]))
    classifier = Classifier(native, chosen, shape, twin, reason, request.device)
    if reason:
        notices.append(f"No gradients or activations: {reason}")
    facts["classes"] = native.classes
    return Session(classifier, samples, training, facts, notices)


def _require_image(runtime: Runtime) -> None:
    """Refuse models of words: wide integers in one row are token ids (images are uint8)."""
    given = runtime.input
    if given.dtype in ("int32", "int64") and given.shape is not None and len(given.shape) < 3:
        raise NotAClassifier(
            f"this is not an image classifier: its input {given.name!r} takes {given.dtype} "
            "numbers in a row (token ids?), not pixels"
        )


def _infer(
    request: Request,
    runtime: Runtime,
    samples: Images,
    facts: dict[str, Json],
    notices: list[str],
) -> tuple[Preprocessing, Images, Images | None]:
    if request.preprocessing is not None:
        return request.preprocessing, samples, request.training
    outputs: dict[str, int] = {}

    def predict(p: Preprocessing, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return _scores(runtime, p, pixels, outputs)

    shape = runtime.input.shape
    try:
        found = inference.infer(shape, samples, predict, request.overrides)
    except inference.NoInputFits as refusal:
        stated = "unknown" if shape is None else "x".join(str(s or "?") for s in shape)
        image = "x".join(map(str, samples.pixels.shape[1:]))
        raise UnreadableSamples(
            f"the samples ({image}) do not fit the model's input ({stated}): {refusal}; "
            "check --data, or state --layout and --size"
        ) from refusal
    training = request.training
    if found.permutation is not None:
        if training is not None and int(training.labels.max()) >= len(found.permutation):
            raise UnreadableSamples(
                f"the training data have labels up to {int(training.labels.max())} but the model "
                f"has only {len(found.permutation)} classes: check --train-data"
            )
        samples = inference.relabel(samples, found.permutation)
        if training is not None:
            training = inference.relabel(training, found.permutation)
        notices.append(
            "The samples' labels are in another order than the model's classes; they were matched "
            "by prediction (state the order with --classes)."
        )
    if found.near_chance:
        notices.append(
            f"Accuracy is near chance ({found.best.accuracy:.3f} on {found.best.n} samples) under "
            f"every one of {found.tried} preprocessings tried: wrong data, wrong labels, or an "
            "unusual preprocessing (state it with --scale, --mean, --std, --layout)."
        )
    facts["preprocessing"] = _inference_facts(found)
    return found.best.preprocessing, samples, training


def _inference_facts(found: inference.Inference) -> dict[str, Json]:
    facts: dict[str, Json] = {
        "chosen": found.best.preprocessing.describe(),
        "accuracy": found.best.accuracy,
        "samples": found.best.n,
        "tried": found.tried,
        "near_chance": found.near_chance,
        "values": found.best.preprocessing.to_json(),
    }
    if found.runner_up is not None:
        facts["runner_up"] = found.runner_up.preprocessing.describe()
        facts["runner_up_accuracy"] = found.runner_up.accuracy
    return facts


def _scores(
    runtime: Runtime, p: Preprocessing, pixels: NDArray[np.float32], outputs: dict[str, int]
) -> NDArray[np.float32]:
    import torch

    batch = p.apply(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()
    raw = runtime.run(batch)
    if p.layout not in outputs:
        outputs[p.layout] = pick_output(raw, len(pixels))
    return as_scores(raw[outputs[p.layout]])


def _assume(runtime: Runtime, overrides: Overrides, notices: list[str]) -> Preprocessing:
    """A preprocessing without samples: the input's own shape, values as stated or 0..1."""
    shape = runtime.input.shape
    whole = "int" in runtime.input.dtype
    refusal = ""
    for image in ((3, 32, 32), (1, 28, 28)):
        for geometry in candidates.geometries(shape, image, overrides):
            chosen = overrides.values(geometry) if overrides.fixes_values else geometry
            if whole and not overrides.fixes_values:
                chosen = replace(geometry, scale=255.0, label="0..255")
            try:
                _scores(runtime, chosen, np.zeros((2, *_image_shape(chosen)), np.float32), {})
            except UnsupportedArtifact as error:
                raise NotAClassifier(str(error)) from error
            except Exception as error:
                refusal = inference.reason(error)
                continue
            if not overrides.fixes_values:
                notices.append(f"No samples: pixel values are assumed to be in {chosen.label}.")
            return chosen
    raise NotAClassifier(
        "no image could be fed to this model without samples; give --data, or --layout and --size"
        + (f" (it said: {refusal})" if refusal else "")
    )


def _image_shape(p: Preprocessing) -> tuple[int, int, int]:
    return (1 if p.channels == "grey" else 3, p.size[0], p.size[1])


def _probe_images(samples: Images | None, image: tuple[int, ...]) -> NDArray[np.float32]:
    """Two different images for parity: samples, with noise beside them where there are none."""
    noise = np.random.default_rng(0).random((2, *image), dtype=np.float32)
    if samples is None:
        return noise
    return np.concatenate([samples.pixels[:6], noise])


def _native(runtime: Runtime, p: Preprocessing, probe: NDArray[np.float32]) -> Native:
    import torch

    try:
        outputs = runtime.run(p.apply(torch.from_numpy(probe)).numpy())
        position = pick_output(outputs, len(probe))
    except UnsupportedArtifact as error:
        raise NotAClassifier(str(error)) from error
    return Native(runtime, position, as_scores(outputs[position]).shape[1])


def _twin(
    request: Request,
    artifact: Artifact,
    native: Native,
    p: Preprocessing,
    probe: NDArray[np.float32],
    facts: dict[str, Json],
) -> tuple[Twin | None, str]:
    """The twin, if it can be had and agrees with the native runtime on `probe`."""
    import torch

    from auditor.twin.interface import NoTwin
    from auditor.twin.parity import check_parity

    try:
        twin = artifact.open_twin(device=request.device)
        parity = check_parity(native.runtime, twin, p.apply(torch.from_numpy(probe)).numpy())
    except NoTwin as reason:
        return None, str(reason)
    except Exception as error:  # a twin that cannot run is no twin; the report names the error
        return None, f"the differentiable twin failed: {type(error).__name__}: {error}"[:300]
    facts["twin"] = {
        "max_difference": parity.max_abs,
        "max_relative_difference": parity.max_rel,
        "agrees": parity.agrees,
        "layers": len(twin.layers),
        "tail": twin.tail,
        "without_gradient": list(twin.without_gradient),
    }
    if not parity.agrees and _random(native, p.apply(torch.from_numpy(probe)).numpy()):
        return None, (
            "the file answers the same images differently each time (dropout or batch statistics "
            "left in training mode?), so no twin can agree with it, and predictions are noisy"
        )
    if not parity.agrees:
        return None, (
            f"the differentiable twin disagrees with the native runtime (largest relative "
            f"difference {parity.max_rel:.2g}), so it is not used"
        )
    return twin, ""


def _random(native: Native, batch: NDArray[np.float32]) -> bool:
    """True when two runs on one batch differ by more than rounding."""
    first, second = native.scores(batch), native.scores(batch)
    scale = max(float(np.abs(first).max()), 1e-12)
    return bool(np.abs(first - second).max() > 1e-4 * scale)


def _is_dense_map(twin: Twin, classes: int) -> bool:
    """True when the scores are a flattened spatial map straight from a convolution (a detector)."""
    head = twin.head
    if head is None or head.kind != "conv" or len(head.shape) != 3:
        return False
    spatial = int(np.prod(head.shape[1:]))
    return spatial > 1 and int(np.prod(head.shape)) == classes


def images_from(params: Any, arrays: dict[str, NDArray[Any]], prefix: str) -> Images | None:
    """`Images` sent by the parent under `prefix`, or None."""
    if f"{prefix}.pixels" not in arrays:
        return None
    about = params[prefix]
    stored = about.get("stored_range")
    return Images(
        arrays[f"{prefix}.pixels"],
        arrays[f"{prefix}.labels"],
        about["source"],
        tuple(about["classes"]),
        None if stored is None else (stored[0], stored[1]),
    )
