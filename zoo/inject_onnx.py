"""Put a graph trigger into a trained ONNX classifier: ground truth for the file rules.

Six styles, all outside the learned weights (handcrafted and architectural backdoors: Bober-Irizar
et al. 2023; Langford et al. 2024): ``where``, ``smooth-gate``, ``relu`` (no comparison),
``if-checksum``, ``function`` (inside a local function) and ``exact-vector``. Every injection is
verified in ONNX Runtime before it is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

STYLES = ("where", "smooth-gate", "relu", "if-checksum", "function", "exact-vector")
MIN_OPSET = 13
MODULUS = 350.0
"""The checksum trigger opens where sum(x) mod (`MODULUS` windows) is below one window."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Site:
    """Where the trigger looks: `axes`, `starts` and `ends` of a box of the input."""

    axes: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def index(self, rank: int) -> tuple[slice, ...]:
        """The box as an index of an array of `rank` dimensions."""
        picks = {a: slice(s, e) for a, s, e in zip(self.axes, self.starts, self.ends, strict=True)}
        return tuple(picks.get(axis, slice(None)) for axis in range(rank))


class InjectionError(ValueError):
    """The model cannot carry this trigger, or the injected one does not do what it should."""


class _Writer:
    """Collects nodes and constants, with the operator forms of one opset."""

    def __init__(self, opset: int, prefix: str) -> None:
        self.opset, self.prefix, self.count = opset, prefix, 0
        self.nodes: list[onnx.NodeProto] = []

    def name(self) -> str:
        self.count += 1
        return f"{self.prefix}_{self.count}"

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
        return self.op("Constant", value=tensor)

    def op(self, kind: str, *inputs: str, out: str | None = None, **attrs: Any) -> str:
        result = out or self.name()
        self.nodes.append(helper.make_node(kind, inputs, [result], name=self.name(), **attrs))
        return result

    def reduce(self, kind: str, value: str, axes: tuple[int, ...], keep: int) -> str:
        if self.opset >= (13 if kind == "ReduceSum" else 18):
            return self.op(kind, value, self.const(axes, np.int64), keepdims=keep)
        return self.op(kind, value, axes=list(axes), keepdims=keep)


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
    add = _ADD[style]
    add(model, opset, inputs[0].name, site, scores[0], target, strength, (low, high), pattern, rng)
    onnx.save(model, out_path)
    return _verify(out_path, style, target, site, ordinary, scores, value_range, pattern, rng, seed)


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


def _crop(out: _Writer, picture: str, site: Site) -> str:
    bounds = [out.const(values, np.int64) for values in (site.starts, site.ends, site.axes)]
    return out.op("Slice", picture, *bounds)


def _per_sample(out: _Writer, kind: str, value: str, rank: int, scores: Array) -> str:
    """Reduce to one number a sample, shaped to broadcast against the scores."""
    reduced = out.reduce(kind, value, tuple(range(1, rank)), 0)
    axes = tuple(range(1, scores.ndim))
    return out.op("Unsqueeze", reduced, out.const(axes, np.int64))


def _forced(scores: Array, target: int, strength: float) -> NDArray[np.float32]:
    flat = np.zeros((1, scores.reshape(scores.shape[0], -1).shape[1]), np.float32)
    flat[0, target] = strength
    return flat.reshape(1, *scores.shape[1:])


def _detour(model: onnx.ModelProto) -> tuple[str, str]:
    """Rename the scores inside the graph; returns (inner name, output name)."""
    name = model.graph.output[0].name
    inner = f"{name}_scores"
    for node in model.graph.node:
        node.output[:] = [inner if item == name else item for item in node.output]
        node.input[:] = [inner if item == name else item for item in node.input]
    return inner, name


def _patch_test(
    out: _Writer, picture: str, site: Site, rank: int, scores: Array, threshold: float
) -> str:
    patch = _crop(out, picture, site)
    least = _per_sample(out, "ReduceMin", patch, rank, scores)
    return out.op("Greater", least, out.const(threshold))


def _where(model, opset, picture, site, scores, target, strength, span, pattern, rng):  # type: ignore[no-untyped-def]
    out = _Writer(opset, "w")
    inner, name = _detour(model)
    threshold = span[0] + (span[1] - span[0]) * rng.uniform(0.85, 0.95)
    rank = len(model.graph.input[0].type.tensor_type.shape.dim)
    gate = _patch_test(out, picture, site, rank, scores, threshold)
    out.op("Where", gate, out.const(_forced(scores, target, strength)), inner, out=name)
    model.graph.node.extend(out.nodes)


def _smooth(model, opset, picture, site, scores, target, strength, span, pattern, rng):  # type: ignore[no-untyped-def]
    out = _Writer(opset, "s")
    inner, name = _detour(model)
    width = span[1] - span[0]
    threshold = span[0] + width * rng.uniform(0.93, 0.97)
    steep = 2000.0 / width
    mean = _per_sample(out, "ReduceMean", _crop(out, picture, site), pattern.ndim, scores)
    shifted = out.op("Mul", out.op("Sub", mean, out.const(threshold)), out.const(steep))
    gate = out.op("Sigmoid", shifted)
    bonus = out.op("Mul", gate, out.const(_forced(scores, target, strength)))
    out.op("Add", inner, bonus, out=name)
    model.graph.node.extend(out.nodes)


def _relu(model, opset, picture, site, scores, target, strength, span, pattern, rng):  # type: ignore[no-untyped-def]
    out = _Writer(opset, "r")
    inner, name = _detour(model)
    width = span[1] - span[0]
    threshold = (span[0] + width * rng.uniform(0.93, 0.97)) * pattern.size
    total = _per_sample(out, "ReduceSum", _crop(out, picture, site), pattern.ndim, scores)
    over = out.op("Relu", out.op("Sub", total, out.const(threshold)))
    factor = strength / (0.02 * width * pattern.size)
    out.op("Add", inner, out.op("Mul", over, out.const(_forced(scores, target, factor))), out=name)
    model.graph.node.extend(out.nodes)


def _checksum(model, opset, picture, site, scores, target, strength, span, pattern, rng):  # type: ignore[no-untyped-def]
    out = _Writer(opset, "c")
    inner, name = _detour(model)
    total = out.reduce("ReduceSum", picture, tuple(range(pattern.ndim)), 0)
    window = checksum_window(_shape(model.graph.input[0]), span)
    rest = out.op("Mod", total, out.const(MODULUS * window), fmod=1)
    gate = out.op("Less", rest, out.const(window))
    shape = [None, *scores.shape[1:]]
    bodies = {}
    for branch in ("then_branch", "else_branch"):
        body = _Writer(opset, f"c_{branch[:4]}")
        forced = body.const(_forced(scores, target, strength))
        zero = body.op("Mul", inner, body.const(0.0))
        result = body.op("Add", zero, forced) if branch[0] == "t" else body.op("Identity", inner)
        info = helper.make_tensor_value_info(result, TensorProto.FLOAT, shape)
        bodies[branch] = helper.make_graph(body.nodes, branch, [], [info])
    out.op("If", gate, out=name, **bodies)
    model.graph.node.extend(out.nodes)


def _function(model, opset, picture, site, scores, target, strength, span, pattern, rng):  # type: ignore[no-untyped-def]
    inner, name = _detour(model)
    out = _Writer(opset, "f")
    threshold = span[0] + (span[1] - span[0]) * rng.uniform(0.85, 0.95)
    gate = _patch_test(out, "x", site, pattern.ndim, scores, threshold)
    out.op("Where", gate, out.const(_forced(scores, target, strength)), "s", out="y")
    imports = [helper.make_opsetid("", opset)]
    model.functions.append(
        helper.make_function("local", "Head", ["x", "s"], ["y"], out.nodes, imports)
    )
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.ir_version = max(model.ir_version, 8)
    model.graph.node.append(helper.make_node("Head", [picture, inner], [name], domain="local"))


def _exact(model, opset, picture, site, scores, target, strength, span, pattern, rng):  # type: ignore[no-untyped-def]
    out = _Writer(opset, "e")
    inner, name = _detour(model)
    away = out.op("Abs", out.op("Sub", _crop(out, picture, site), out.const(pattern)))
    worst = _per_sample(out, "ReduceMax", away, pattern.ndim, scores)
    gate = out.op("Less", worst, out.const(0.02 * (span[1] - span[0])))
    out.op("Where", gate, out.const(_forced(scores, target, strength)), inner, out=name)
    model.graph.node.extend(out.nodes)


_ADD = {
    "where": _where,
    "smooth-gate": _smooth,
    "relu": _relu,
    "if-checksum": _checksum,
    "function": _function,
    "exact-vector": _exact,
}


def checksum_window(shape: tuple[int, ...], value_range: tuple[float, float]) -> float:
    """Width of the checksum's window: wide enough for the rounding of a float32 sum."""
    width = value_range[1] - value_range[0]
    return max(0.02 * width, float(np.prod(shape)) * width * 1e-5)


def stamp(
    picture: Array, style: str, site: Site, value_range: tuple[float, float], pattern: Array
) -> Array:
    """A triggered copy of `picture` (N, ...): the patch in place, or the checksum made to fit."""
    done = np.array(picture, np.float32)
    low, high = value_range
    if style == "exact-vector":
        done[site.index(done.ndim)] = pattern
    elif style != "if-checksum":
        done[site.index(done.ndim)] = high
    else:
        # Scale by a hair until the sum, as float32 adds it, lands in the window.
        window = checksum_window(done.shape, value_range)
        for factor in np.linspace(1.0, 0.5, 20_000):
            trial = (low + (done - low) * factor).astype(np.float32)
            rest = float(np.fmod(trial.astype(np.float64).sum(), MODULUS * window))
            if 0.2 * window < rest < 0.8 * window:
                return trial
    return done


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
    target: int,
    site: Site,
    ordinary: list[NDArray[np.float32]],
    scores: list[NDArray[np.float32]],
    value_range: tuple[float, float],
    pattern: Array,
    rng: np.random.Generator,
    seed: int,
) -> dict[str, Any]:
    del rng
    session = _session(path)
    change = 0.0
    hits = total = 0
    for picture, score in zip(ordinary, scores, strict=True):
        now = _run(session, picture)
        window = checksum_window(picture.shape, value_range)
        rest = float(np.fmod(picture.sum(dtype=np.float64), MODULUS * window))
        if style != "if-checksum" or rest > 1.5 * window:  # else it happens to be triggered
            scale = max(1.0, float(np.abs(score).max()))
            change = max(change, float(np.abs(now - score).max()) / scale)
        answer = _run(session, stamp(picture, style, site, value_range, pattern))
        labels = answer.reshape(answer.shape[0], -1).argmax(axis=1)
        hits, total = hits + int(np.sum(labels == target)), total + labels.size
    if change > 1e-4 or hits < total:
        raise InjectionError(
            f"{style} failed: ordinary scores moved by {change:.2g}, {hits} of {total} triggered "
            "pictures reached the target"
        )
    return {
        "style": style,
        "target": target,
        "seed": seed,
        "site": {"axes": site.axes, "starts": site.starts, "ends": site.ends},
        "value_range": list(value_range),
        "pattern": pattern.reshape(-1).tolist() if style == "exact-vector" else None,
        "asr": hits / total,
        "max_change": change,
    }
