"""ONNX files running in ONNX Runtime on the CPU. Imported in the sandbox child only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]

from auditor.artifacts.interface import Array, Runtime, TensorInfo
from auditor.artifacts.onnx_widen import needs_widening, widened
from auditor.errors import UnreadableArtifact, UnsupportedArtifact

OLDEST_OPSET = 7
"""ONNX Runtime promises nothing below; such files pass through ONNX's version converter."""

_UPGRADED_OPSET = 13
_ONLY_ERRORS = 4
_NAMES = {"float": "float32", "double": "float64"}


class OnnxRuntime(Runtime):
    """One inference session; `notice` says when an upgraded or widened copy runs instead."""

    def __init__(self, path: Path, proto: onnx.ModelProto, *, threads: int = 1) -> None:
        self._session, self.notice = _session(path, proto, threads)
        self._inputs = self._session.get_inputs()
        self._one_by_one = False

    @property
    def input(self) -> TensorInfo:
        """The one input, as the file declares it."""
        if len(self._inputs) != 1:
            names = ", ".join(repr(i.name) for i in self._inputs[:5]) or "none"
            raise UnsupportedArtifact(
                f"The model has {len(self._inputs)} inputs ({names}); an image classifier has one."
            )
        found = self._inputs[0]
        kind = found.type.removeprefix("tensor(").removesuffix(")")
        shape = tuple(found.shape) if found.shape is not None else None
        return TensorInfo(found.name, _NAMES.get(kind, kind), shape)

    def run(self, batch: Array) -> tuple[Array, ...]:
        """Every output for `batch` (N, ...), whatever batch size the file fixes."""
        info = self.input
        batch = _as_type(batch, info.dtype)
        shape = info.shape
        if shape is not None and batch.ndim == len(shape) + 1:
            return _stacked([self._call(info.name, sample) for sample in batch])
        fixed = shape[0] if shape else None
        if isinstance(fixed, int) and fixed > 0:
            return self._in_parts(info.name, batch, fixed)
        if self._one_by_one:
            return self._in_parts(info.name, batch, 1)
        return self._at_once(info.name, batch)

    def _call(self, name: str, batch: Array) -> list[Array]:
        results: list[Any] = self._session.run(None, {name: np.ascontiguousarray(batch)})
        return [np.asarray(result) for result in results]

    def _at_once(self, name: str, batch: Array) -> tuple[Array, ...]:
        """The whole batch; a file that only claims to take any batch is run sample by sample."""
        if len(batch) < 2:
            return tuple(self._call(name, batch))
        try:
            results = self._call(name, batch)
        except Exception:
            results = []
        if results and any(r.ndim and r.shape[0] == len(batch) for r in results):
            return tuple(results)
        parts = self._in_parts(name, batch, 1)
        self._one_by_one = True
        return parts

    def _in_parts(self, name: str, batch: Array, size: int) -> tuple[Array, ...]:
        parts = []
        for at in range(0, len(batch), size):
            part = batch[at : at + size]
            if len(part) < size:
                part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            parts.append(self._call(name, part))
        joined = []
        for results in zip(*parts, strict=True):
            whole = results[0].ndim and results[0].shape[0] == size
            joined.append(np.concatenate(results)[: len(batch)] if whole else np.stack(results))
        return tuple(joined)


def _session(path: Path, proto: onnx.ModelProto, threads: int) -> tuple[ort.InferenceSession, str]:
    """A session for the file, or for a copy that ONNX Runtime takes and what was done to it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = _ONLY_ERRORS
    providers = ["CPUExecutionProvider"]
    try:
        return ort.InferenceSession(str(path), options, providers=providers), ""
    except Exception as error:  # ONNX Runtime's exception types are not public
        refusal = _sentence(error)
        opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
        widen = needs_widening(proto)
        if opset >= OLDEST_OPSET and not widen:
            raise UnreadableArtifact(f"ONNX Runtime refuses {path}: {refusal}.") from error
    if widen:
        tried = "a copy in float32 could not be run either"
        notice = (
            "ONNX Runtime has no kernels for this file's number type (bfloat16 or double): "
            "it is run and audited in float32."
        )
    else:
        tried = "ONNX's version converter could not raise it"
        notice = (
            f"ONNX Runtime does not run operator set {opset}: the file is run and audited as "
            f"raised to {_UPGRADED_OPSET} by ONNX's version converter."
        )
    try:
        copy = widened(onnx.load(path)).SerializeToString() if widen else upgrade(path)
        return ort.InferenceSession(bytes(copy), options, providers=providers), notice
    except Exception as error:
        raise UnreadableArtifact(
            f"ONNX Runtime refuses {path} (operator set {opset}: {refusal}), and {tried}."
        ) from error


def upgrade(path: Path, opset: int = _UPGRADED_OPSET) -> bytes:
    """The model at `path` raised to `opset` by ONNX's version converter."""
    from onnx import version_converter

    return bytes(version_converter.convert_version(onnx.load(path), opset).SerializeToString())


def _stacked(parts: list[list[Array]]) -> tuple[Array, ...]:
    return tuple(np.stack(results) for results in zip(*parts, strict=True))


def _as_type(batch: Array, name: str) -> Array:
    """`batch` in the declared type; integers are rounded to, not truncated to."""
    try:
        dtype = np.dtype(name)
    except TypeError:
        raise UnsupportedArtifact(f"The model takes {name} input, which cannot be fed.") from None
    if batch.dtype == dtype:
        return batch
    if dtype.kind in "iu" and batch.dtype.kind == "f":
        limits = np.iinfo(dtype)
        batch = np.clip(np.rint(batch), limits.min, limits.max)
    return batch.astype(dtype)


def _sentence(error: BaseException) -> str:
    """The first line of an error, without ONNX Runtime's codes and paths into its own sources."""
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else type(error).__name__
    line = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)
    line = re.sub(r"^Load model from .*? failed:", "", line)
    return re.sub(r"\S*/onnxruntime/\S+ \S+ ?", "", line)[:300].strip().rstrip(".")
