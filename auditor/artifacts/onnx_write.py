"""Write-back: a copy of an ONNX file in which only the named weights differ.

A weight is an initializer of the main graph, the value of a Constant node, or what a
ConstantOfShape node makes (the node then becomes a Constant of the same name). External data are
copied beside the new file, with the changed ranges patched.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray

from auditor.artifacts.onnx_load import inside_folder
from auditor.artifacts.onnx_wire import Field, fields, message, read_varint, splice, text, varint
from auditor.errors import UnreadableArtifact

PROVENANCE = "auditor.provenance"
"""Key of the one metadata entry added."""

_GRAPH, _METADATA = 7, 14  # ModelProto
_NODE, _INITIALIZER = 1, 5  # GraphProto
_INPUT, _OUTPUT, _OP_TYPE, _ATTRIBUTE = 1, 2, 4, 5  # NodeProto
_TENSOR, _ATTRIBUTE_TYPE = 5, 20  # AttributeProto
_DIMS, _DATA_TYPE, _NAME, _RAW, _EXTERNAL = 1, 2, 8, 9, 13  # TensorProto
_TYPED_DATA = {4, 5, 6, 7, 10, 11}

_DTYPES: dict[int, Any] = {
    onnx.TensorProto.FLOAT: np.dtype("<f4"),
    onnx.TensorProto.FLOAT16: np.dtype("<f2"),
    onnx.TensorProto.DOUBLE: np.dtype("<f8"),
    onnx.TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    onnx.TensorProto.INT8: np.dtype("i1"),
    onnx.TensorProto.UINT8: np.dtype("u1"),
    onnx.TensorProto.INT32: np.dtype("<i4"),
}


@dataclass(slots=True)
class _Edit:
    """The work in hand. `patches` lists (file, offset, bytes) for external data."""

    changes: Mapping[str, NDArray[Any]]
    folder: Path
    data_name: str
    done: set[str] = field(default_factory=set)
    bases: dict[str, int] = field(default_factory=dict)
    size: int = 0
    patches: list[tuple[int, bytes]] = field(default_factory=list)


def write_copy(
    source: Path, path: Path, changes: Mapping[str, NDArray[Any]], provenance: Mapping[str, str]
) -> tuple[Path, ...]:
    """See `Artifact.write`. Nothing is left behind when it fails."""
    if path.resolve() == source.resolve():
        raise ValueError("a changed copy may not replace the file it is made from")
    data = source.read_bytes()
    edit = _Edit(changes, source.resolve().parent, f"{path.name}.data")
    try:
        changed = _model(data, edit, provenance)
    except ValueError as error:
        if str(error).startswith("parameter"):
            raise
        raise UnreadableArtifact(f"{source} cannot be edited: {error}.") from error
    unknown = sorted(set(changes) - edit.done)
    if unknown:
        raise KeyError(f"no stored parameter named {unknown[0]!r}")
    beside = path.with_name(edit.data_name)
    writers: list[tuple[Path, Callable[[Path], None]]] = []
    if edit.bases:
        writers.append((beside, lambda target: _write_data(target, edit)))
    writers.append((path, lambda target: _write_bytes(target, changed)))
    _replace_all(writers)
    return tuple(reversed([target for target, _ in writers]))


def _model(data: bytes, edit: _Edit, provenance: Mapping[str, str]) -> bytes:
    edits, keys = [], set()
    for part in fields(data):
        if part.number == _GRAPH:
            edits.append((part, message(_GRAPH, _graph(part.of(data), edit))))
        elif part.number == _METADATA:
            keys.add(text(part.of(data), 1))
    key, count = PROVENANCE, 1
    while key in keys:
        count += 1
        key = f"{PROVENANCE}.{count}"
    value = json.dumps(dict(provenance), sort_keys=True, ensure_ascii=False)
    entry = message(1, key.encode()) + message(2, value.encode())
    return splice(data, edits, message(_METADATA, entry))


def _graph(data: bytes, edit: _Edit) -> bytes:
    edits: list[tuple[Field, bytes]] = []
    stored = [part.of(data) for part in fields(data) if part.number == _INITIALIZER]
    names = Counter(text(tensor, _NAME) for tensor in stored)
    twice = next((name for name in edit.changes if names[name] > 1), None)
    if twice is not None:
        raise ValueError(f"two stored tensors are called {twice!r}")
    for part in fields(data):
        if part.number == _INITIALIZER:
            old = part.of(data)
            new = _tensor(old, text(old, _NAME), edit)
        elif part.number == _NODE:
            old = part.of(data)
            new = _node(old, edit)
        else:
            continue
        if new != old:
            edits.append((part, message(part.number, new)))
    return splice(data, edits)


def _node(data: bytes, edit: _Edit) -> bytes:
    """The node with its tensors edited."""
    kind = text(data, _OP_TYPE)
    name = text(data, _OUTPUT)
    if kind == "ConstantOfShape" and name in edit.changes:
        return _constant(data, name, edit)
    edits = []
    for part in fields(data):
        if part.number == _ATTRIBUTE:
            old = part.of(data)
            new = _attribute(old, name if kind == "Constant" else None, edit)
            if new != old:
                edits.append((part, message(_ATTRIBUTE, new)))
    return splice(data, edits)


def _constant(data: bytes, name: str, edit: _Edit) -> bytes:
    """A Constant node in place of a ConstantOfShape node, under the same names."""
    array, kind = np.asarray(edit.changes[name]), _filling(data)
    tensor = b"".join(varint(_DIMS << 3) + varint(size) for size in array.shape)
    tensor += varint(_DATA_TYPE << 3) + varint(kind) + message(_NAME, name.encode())
    tensor += message(_RAW, _encode(array, kind, name))
    value = message(1, b"value") + message(_TENSOR, tensor)
    value += varint(_ATTRIBUTE_TYPE << 3) + varint(onnx.AttributeProto.TENSOR)
    edits = [(p, b"") for p in fields(data) if p.number in (_INPUT, _OP_TYPE, _ATTRIBUTE)]
    added = message(_OP_TYPE, b"Constant") + message(_ATTRIBUTE, value)
    edit.done.add(name)
    return splice(data, edits, added)


def _filling(node: bytes) -> int:
    """Data type of what a ConstantOfShape node makes."""
    for part in fields(node):
        if part.number == _ATTRIBUTE:
            for inner in fields(part.of(node)):
                if inner.number == _TENSOR and inner.wire == 2:
                    return _integer(inner.of(part.of(node)), _DATA_TYPE)
    return int(onnx.TensorProto.FLOAT)


def _attribute(data: bytes, name: str | None, edit: _Edit) -> bytes:
    """An attribute with its tensors edited (subgraphs keep their data but may be external)."""
    edits = []
    for part in fields(data):
        old = part.of(data)
        if part.wire == 2 and part.number in (_TENSOR, 10):
            new = _tensor(old, name if part.number == _TENSOR else None, edit)
        elif part.wire == 2 and part.number in (6, 11):
            inner = _Edit({}, edit.folder, edit.data_name, bases=edit.bases, size=edit.size)
            new = _graph(old, inner)
            edit.size = inner.size
        else:
            continue
        if new != old:
            edits.append((part, message(part.number, new)))
    return splice(data, edits)


def _tensor(data: bytes, name: str | None, edit: _Edit) -> bytes:
    """The tensor with new data where `name` is to change, and external data pointed beside."""
    parts = list(fields(data))
    external = {
        text(p.of(data), 1): (p, text(p.of(data), 2)) for p in parts if p.number == _EXTERNAL
    }
    changing = name is not None and name in edit.changes
    raw = b""
    if changing:
        assert name is not None
        array = np.asarray(edit.changes[name])
        shape = _shape(data, parts)
        if tuple(array.shape) != shape:
            raise ValueError(f"parameter {name!r} has shape {shape}, not {tuple(array.shape)}")
        raw = _encode(array, _integer(data, _DATA_TYPE), name)
        edit.done.add(name)
    if external:
        return _external(data, external, raw if changing else None, edit)
    if not changing:
        return data
    stored = [p for p in parts if p.number == _RAW]
    edits = [(p, b"") for p in parts if p.number in _TYPED_DATA]
    edits += [(p, b"") for p in stored[:-1]]
    edits += [(p, message(_RAW, raw)) for p in stored[-1:]]
    return splice(data, edits, b"" if stored else message(_RAW, raw))


def _external(
    data: bytes, entries: Mapping[str, tuple[Field, str]], raw: bytes | None, edit: _Edit
) -> bytes:
    """Point a tensor at the new data file; a checksum of the old file no longer holds."""
    if "location" not in entries:
        raise ValueError("an external tensor names no file")
    location = entries["location"][1]
    if location not in edit.bases:
        path = edit.folder / location
        if not inside_folder(path, edit.folder) or not path.is_file():
            raise ValueError(f"external data {location!r} are not a file beside the model")
        edit.bases[location] = edit.size
        edit.size = -(-(edit.size + path.stat().st_size) // 4096) * 4096
    base = edit.bases[location]
    offset = int(entries["offset"][1]) if "offset" in entries else 0
    if raw is not None:
        edit.patches.append((base + offset, raw))
    edits = [(entries["location"][0], _entry("location", edit.data_name))]
    appended = b""
    if "checksum" in entries:
        edits.append((entries["checksum"][0], b""))
    if base and "offset" in entries:
        edits.append((entries["offset"][0], _entry("offset", str(base + offset))))
    elif base:
        appended = _entry("offset", str(base))
    return splice(data, edits, appended)


def _entry(key: str, value: str) -> bytes:
    return message(_EXTERNAL, message(1, key.encode()) + message(2, value.encode()))


def _shape(data: bytes, parts: list[Field]) -> tuple[int, ...]:
    sizes: list[int] = []
    for part in parts:
        if part.number == _DIMS:
            at = part.payload
            while at < part.end:
                size, at = read_varint(data, at)
                sizes.append(size)
    return tuple(sizes)


def _integer(data: bytes, number: int) -> int:
    for part in fields(data):
        if part.number == number and part.wire == 0:
            return read_varint(data, part.payload)[0]
    return 0


def _encode(array: NDArray[Any], kind: int, name: str) -> bytes:
    """`array` in the stored type; values beyond its range become its extremes."""
    if kind not in _DTYPES:
        raise ValueError(f"parameter {name!r} is stored in a type that cannot be written")
    dtype = _DTYPES[kind]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return bytes(np.clip(np.rint(array), limits.min, limits.max).astype(dtype).tobytes())
    if kind == onnx.TensorProto.FLOAT16:
        array = np.clip(array, *(float(np.finfo(np.float16).min), float(np.finfo(np.float16).max)))
    return bytes(np.ascontiguousarray(array).astype(dtype).tobytes())


def _write_bytes(target: Path, data: bytes) -> None:
    target.write_bytes(data)


def _write_data(target: Path, edit: _Edit) -> None:
    """Copy the external files one after the other, then patch the changed ranges."""
    with target.open("wb") as out:
        for location, base in edit.bases.items():
            out.seek(base)
            with (edit.folder / location).open("rb") as source:
                shutil.copyfileobj(source, out, 1 << 20)
        end = out.tell()
        for offset, raw in edit.patches:
            if offset + len(raw) > end:
                raise UnreadableArtifact("The external data are shorter than the model says.")
            out.seek(offset)
            out.write(raw)


def _replace_all(writers: list[tuple[Path, Callable[[Path], None]]]) -> None:
    """Write every file under a temporary name, then rename them all; clean up on failure."""
    pairs = [(p.with_name(f".{p.name}.{os.getpid()}.tmp"), p, write) for p, write in writers]
    try:
        for temporary, _, write in pairs:
            write(temporary)
        for temporary, final, _ in pairs:
            temporary.replace(final)
    finally:
        for temporary, _, _ in pairs:
            temporary.unlink(missing_ok=True)
