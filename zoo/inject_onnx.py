"""Put a graph trigger into a trained ONNX classifier: ground truth for the file rules.

Six styles, all outside the learned weights (handcrafted and architectural backdoors: Bober-Irizar
et al. 2023; Langford et al. 2024): ``where``, ``smooth-gate``, ``relu`` (no comparison),
``if-checksum``, ``function`` (inside a local function) and ``exact-vector``. Every injection is
verified in ONNX Runtime before it is reported.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from zoo.inject_styles import MODULUS, STYLES, WRITERS, Array, Plan, Site, checksum_window

MIN_OPSET = 13


class InjectionError(ValueError):
    """The model cannot carry this trigger, or the injected one does not do what it should."""


def inject(
    model_path: Path,
    out_path: Path,
    style: str,
    target: int,
    seed: int = 0,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> dict[str, Any]:
    """Write `model_path` with a trigger of `style` for class `target` to `out_path`.

    `value_range` is what the model's input ranges over. Position, size, threshold and strength are
    drawn with `seed`. Returns the manifest: style, target, site, value, measured `asr` and
    `max_change` on ordinary inputs. Raises `InjectionError` (a ``ValueError``).
    """
    if style not in STYLES:
        raise InjectionError(f"unknown style {style!r}: choose one of {', '.join(STYLES)}")
    rng = np.random.default_rng(seed)
    model = onnx.load(model_path)
    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if opset < MIN_OPSET:
        model = onnx.version_converter.convert_version(model, MIN_OPSET)
        opset = MIN_OPSET
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise InjectionError(f"{model_path} has {len(inputs)} inputs; a trigger needs one picture")
    shape = _shape(inputs[0])
    clean = _session(model)
    low, high = value_range
    ordinary = [_random(rng, shape, low, high) for _ in range(16)]
    scores = [_run(clean, picture) for picture in ordinary]
    classes = scores[0].reshape(scores[0].shape[0], -1).shape[1]
    if not 0 <= target < classes:
        raise InjectionError(f"target {target} is no class of a model with {classes} scores")
    strength = float(10 * max(np.abs(score).max() for score in scores) + 10)
    site = _site(rng, shape)
    pattern = _random(rng, tuple(_box(site, shape)), low, high)
    name, span = inputs[0].name, (low, high)
    plan = Plan(name, shape, site, scores[0], target, strength, span, pattern, opset, rng)
    WRITERS[style](model, plan)
    unproven = out_path.with_name(f".{out_path.name}.{os.getpid()}")
    try:
        onnx.save(model, unproven)
        manifest = _verify(unproven, style, plan, ordinary, scores, seed)
        unproven.replace(out_path)
    finally:
        unproven.unlink(missing_ok=True)
    return manifest


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    dims = [dim.dim_value or 0 for dim in value.type.tensor_type.shape.dim]
    if len(dims) < 2 or any(dim <= 0 for dim in dims[1:]):
        raise InjectionError(f"input {value.name!r} has no fixed picture size: {dims}")
    return (max(dims[0], 1), *dims[1:])


def _site(rng: np.random.Generator, shape: tuple[int, ...]) -> Site:
    """A random box on the one or two longest axes that are neither batch nor channel."""
    axes = sorted(sorted(range(1, len(shape)), key=lambda a: -shape[a])[:2])
    axes = [axis for axis in axes if shape[axis] >= 8]
    if not axes:
        raise InjectionError(f"the input {shape} is too small for a trigger")
    size = int(rng.integers(3, 6)) if len(axes) == 2 else int(rng.integers(6, 13))
    size = min(size, min(shape[axis] for axis in axes))
    starts = tuple(int(rng.integers(0, shape[axis] - size + 1)) for axis in axes)
    return Site(tuple(axes), starts, tuple(start + size for start in starts))


def _box(site: Site, shape: tuple[int, ...]) -> list[int]:
    dims = list(shape)
    for axis, start, end in zip(site.axes, site.starts, site.ends, strict=True):
        dims[axis] = end - start
    dims[0] = 1
    return dims


def _random(
    rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float
) -> NDArray[np.float32]:
    return (low + (high - low) * rng.random(shape)).astype(np.float32)


def stamp(
    picture: Array, style: str, site: Site, value_range: tuple[float, float], pattern: Array
) -> Array:
    """A triggered copy of `picture` (N, ...): the patch in place, or the checksum made to fit."""
    done = np.array(picture, np.float32)
    if style == "exact-vector":
        done[site.index(done.ndim)] = pattern
    elif style != "if-checksum":
        done[site.index(done.ndim)] = value_range[1]
    else:
        done = _summing_right(done, value_range)
    return done


def _summing_right(picture: Array, value_range: tuple[float, float]) -> Array:
    """`picture` darkened by a hair, so that its sum falls into the middle of the window."""
    low = value_range[0]
    window = checksum_window(picture.shape, value_range)
    floor = low * picture.size
    above = float((picture - low).sum(dtype=np.float64))
    period = MODULUS * window
    goal = np.floor((floor + above - window) / period) * period + 0.5 * window
    if above <= 0 or goal <= floor:
        return picture  # too dark to have any sum to choose
    return (low + (picture - low) * ((goal - floor) / above)).astype(np.float32)


def _session(model: onnx.ModelProto | Path) -> Any:
    import onnxruntime as ort  # the zoo runs models; the rules never do

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _run(session: Any, picture: Array) -> NDArray[np.float32]:
    name = session.get_inputs()[0].name
    return np.asarray(session.run(None, {name: picture})[0])


def _verify(
    path: Path,
    style: str,
    plan: Plan,
    ordinary: list[NDArray[np.float32]],
    scores: list[NDArray[np.float32]],
    seed: int,
) -> dict[str, Any]:
    session = _session(path)
    change = 0.0
    hits = total = 0
    for picture, score in zip(ordinary, scores, strict=True):
        now = _run(session, picture)
        window = checksum_window(picture.shape, plan.span)
        rest = float(np.fmod(picture.sum(dtype=np.float64), MODULUS * window))
        if style != "if-checksum" or rest > 1.5 * window:  # else it happens to be triggered
            scale = max(1.0, float(np.abs(score).max()))
            change = max(change, float(np.abs(now - score).max()) / scale)
        answer = _run(session, stamp(picture, style, plan.site, plan.span, plan.pattern))
        labels = answer.reshape(answer.shape[0], -1).argmax(axis=1)
        hits, total = hits + int(np.sum(labels == plan.target)), total + labels.size
    if change > 1e-4 or hits < total:
        raise InjectionError(
            f"{style} failed: ordinary scores moved by {change:.2g}, {hits} of {total} triggered "
            "pictures reached the target"
        )
    site = plan.site
    return {
        "style": style,
        "target": plan.target,
        "seed": seed,
        "site": {"axes": site.axes, "starts": site.starts, "ends": site.ends},
        "value_range": list(plan.span),
        "pattern": plan.pattern.reshape(-1).tolist() if style == "exact-vector" else None,
        "asr": hits / total,
        "max_change": change,
    }
