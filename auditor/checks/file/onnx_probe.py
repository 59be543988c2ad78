"""Evaluate a weight-free piece of a graph on made-up pictures: does it behave like a gate?

Only the slice between the input and the suspected gate is computed, by onnx's reference evaluator
in numpy, in the way a compiler folds constants. Loops are never evaluated and large slices are
refused, so nothing of the model's own work is run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from auditor.checks.file.onnx_graph import Program
from auditor.checks.file.onnx_shapes import inferred_shapes
from auditor.checks.file.onnx_slice import slice_model
from auditor.checks.file.onnx_weights import words

REFUSED = words(
    "Loop Scan SequenceMap RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli "
    "Multinomial Range Tile"
)
MAX_INPUT = 1 << 20
"""Elements of the largest input made up here."""

MAX_STEP = 1 << 24
"""Elements of the largest value a slice may produce."""

SECONDS = 4.0
ORDINARY = 24
PLATEAU_SHARE = 0.85
"""Share of ordinary pictures on which a gate rests at one of its two ends."""

Picture = dict[str, NDArray[Any]]


@dataclass(slots=True)
class Slice:
    """Computes `targets` from input pictures. `shapes` gives every input's concrete shape."""

    run: Any
    targets: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, np.dtype[Any]]

    def __call__(self, picture: Picture) -> list[NDArray[Any]] | None:
        """Values of the targets, None when the evaluator fails on this picture."""
        try:
            with np.errstate(all="ignore"):
                return [np.asarray(value) for value in self.run.run(None, picture)]
        except Exception:  # the evaluator meets hostile graphs: any failure means unknown
            return None


@dataclass(slots=True)
class Profile:
    """How a value behaves over pictures of one value range.

    `kind` is ``gate`` (rests at an end on ordinary pictures, moves on some), ``constant`` (never
    moved) or ``varies``. `rest` and `open` are the usual value and the one farthest from it,
    `picture` what gave it.
    """

    kind: str
    rest: NDArray[Any]
    open: NDArray[Any]
    picture: Picture = field(default_factory=dict)
    low: float = 0.0
    high: float = 0.0


RANGES: tuple[tuple[str, float, float], ...] = (
    ("0..1", 1.0, 0.0),
    ("0..255", 255.0, 0.0),
    ("-1..1", 2.0, -1.0),
    ("standardised", 4.0, -1.8),
)
"""Name, factor and offset from 0..1 of the value ranges classifiers are fed."""


def open_slice(program: Program, targets: tuple[str, ...]) -> Slice | None:
    """A `Slice` for `targets`; None when it cannot be evaluated safely."""
    proto = slice_model(program, targets)
    if proto is None or too_much(proto):
        return None
    shapes, dtypes = {}, {}
    for value in proto.graph.input:
        dtype, shape = program.inputs[value.name]
        number = int(onnx.TensorProto.DataType.Value(dtype or "FLOAT"))
        dtypes[value.name] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
        shapes[value.name] = _concrete(shape)
        if int(np.prod(shapes[value.name])) > MAX_INPUT:
            return None
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, number, None))
    from onnx.reference import ReferenceEvaluator  # half a second: only suspects pay it

    try:
        run = ReferenceEvaluator(proto)
    except Exception:  # unknown operator or broken attribute
        return None
    return Slice(run, targets, shapes, dtypes)


def too_much(proto: onnx.ModelProto) -> bool:
    """True when a slice loops, draws random numbers or makes a value above `MAX_STEP`."""
    nodes = list(proto.graph.node)
    while nodes:
        node = nodes.pop()
        if node.op_type in REFUSED:
            return True
        nodes.extend(child for attr in node.attribute for child in attr.g.node)
    try:
        inferred = inferred_shapes(proto)
    except Exception:  # invalid nodes surface as several exception types
        return False
    sizes = (
        np.prod([max(dim.dim_value, 1) for dim in value.type.tensor_type.shape.dim], dtype=float)
        for value in inferred.graph.value_info
    )
    return any(size > MAX_STEP for size in sizes)


def _concrete(shape: tuple[int | str | None, ...] | None) -> tuple[int, ...]:
    if shape is None:
        return (1, 3, 32, 32)
    default = 32 if len(shape) >= 3 else 64
    return tuple(
        dim if isinstance(dim, int) and dim > 0 else (1 if axis == 0 else default)
        for axis, dim in enumerate(shape)
    )


def pictures(piece: Slice, factor: float, offset: float, seed: int = 0) -> Iterator[Picture]:
    """`ORDINARY` smooth pictures of varied brightness and contrast, then extreme ones."""
    rng = np.random.default_rng(seed)
    for index in range(ORDINARY + 8):
        made: Picture = {}
        for name, shape in piece.shapes.items():
            if piece.dtypes[name].kind in "iu" and piece.dtypes[name].itemsize > 1:
                made[name] = _tokens(rng, shape, index).astype(piece.dtypes[name])
                continue
            base = _smooth(rng, shape) if index < ORDINARY else _extreme(shape, index - ORDINARY)
            scale, shift = (255.0, 0.0) if piece.dtypes[name].kind in "iu" else (factor, offset)
            made[name] = (base * scale + shift).astype(piece.dtypes[name])
        yield made


def _smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A random picture in 0..1: waves plus noise, brightness and contrast varied."""
    total = np.zeros(shape)
    for axis, size in enumerate(shape):
        if size > 1:
            wave = np.sin(np.arange(size) * rng.uniform(0.1, 1.0) + rng.uniform(0, 6.3))
            total = total + wave.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    total = total / max(1.0, float(np.abs(total).max()))
    noise = rng.uniform(-1, 1, shape)
    contrast, light = rng.uniform(0.1, 0.5), rng.uniform(0.15, 0.85)
    mixed: NDArray[np.float64] = light + contrast * (0.7 * total + 0.3 * noise)
    return np.clip(mixed, 0.0, 1.0)


def _extreme(shape: tuple[int, ...], index: int) -> NDArray[np.float64]:
    """White, black, grey, checkerboard, bright corners: what opens most hand-made gates."""
    grid = np.indices(shape).sum(axis=0)
    choices = (np.ones(shape), np.zeros(shape), np.full(shape, 0.5), grid % 2, (grid // 2) % 2)
    if index < len(choices):
        return np.asarray(choices[index], np.float64)
    picture = np.full(shape, 0.3)
    flat = picture.reshape(-1)
    part = max(1, flat.size // 8)
    flat[:part] = float(index % 2)
    flat[-part:] = 1.0 - float(index % 2)
    return picture


def _tokens(rng: np.random.Generator, shape: tuple[int, ...], index: int) -> NDArray[np.int64]:
    ids = rng.integers(2, 900, shape)
    if len(shape) > 1 and shape[-1] > 1:
        ids[..., rng.integers(1, shape[-1] + 1) :] = index % 2  # padding of varied length
    return ids


def profile(
    piece: Slice, factor: float, offset: float, extra: tuple[Picture, ...] = ()
) -> Profile | None:
    """Behaviour of the first target over one value range; None when it cannot be computed."""
    rows: list[NDArray[np.float64]] = []
    shape: tuple[int, ...] = ()
    shown: list[Picture] = []
    start = time.monotonic()
    for picture in (*pictures(piece, factor, offset), *extra):
        values = piece(picture)
        if values is None or values[0].dtype.kind not in "fiub" or values[0].size > 1 << 16:
            return None
        rows.append(values[0].astype(np.float64).reshape(-1))
        shown.append(picture)
        shape = values[0].shape
        if time.monotonic() - start > SECONDS and len(rows) >= 8 and not extra:
            break
    if not rows or len({row.size for row in rows}) > 1:
        return None
    return _judge(np.nan_to_num(np.stack(rows), posinf=1e30, neginf=-1e30), shown, shape)


def _judge(table: NDArray[np.float64], shown: list[Picture], shape: tuple[int, ...]) -> Profile:
    ordinary = table[:ORDINARY]
    low, high = table.min(axis=0), table.max(axis=0)
    span = high - low
    rest = np.median(ordinary, axis=0)
    widest = float(span.max()) if span.size else 0.0
    far = int(np.abs(table - rest).max(axis=1).argmax()) if span.size else 0
    result = Profile(
        "constant",
        rest.reshape(shape),
        table[far].reshape(shape),
        shown[far],
        float(low.min()) if span.size else 0.0,
        float(high.max()) if span.size else 0.0,
    )
    if widest <= 1e-9 * max(1.0, float(np.abs(rest).max() if rest.size else 0.0)):
        return result
    moving = span > 1e-3 * widest
    near = 0.02 * span[moving]
    at_end = np.minimum(ordinary[:, moving] - low[moving], high[moving] - ordinary[:, moving])
    result.kind = "gate" if np.all((at_end <= near).mean(axis=0) >= PLATEAU_SHARE) else "varies"
    return result
