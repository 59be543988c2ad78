"""Walk the protobuf bytes of an ONNX file without building messages or copying tensors.

A parser forgets what it does not know: unknown fields, a second value of a single field, bytes
after the end. The walker keeps exactly these. The file is mapped, tensor data are skipped, and
depth and number of fields are capped.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import onnx

Buffer: TypeAlias = mmap.mmap | bytes

MAX_DEPTH = 100
"""Nesting that protobuf's own parsers accept."""

MAX_FIELDS = 4_000_000
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
DATA_FIELDS = {
    4: "float_data",
    5: "int32_data",
    6: "string_data",
    7: "int64_data",
    9: "raw_data",
    10: "double_data",
    11: "uint64_data",
}
_TEXTS = frozenset(
    {"doc_string", "value", "key", "producer_name", "producer_version", "s", "strings"}
)
_MESSAGE, _STRING, _BYTES, _GROUP = 11, 9, 12, 10


class Broken(Exception):
    """The bytes at `offset` are no protobuf; `cut` when a known field runs past the end."""

    def __init__(self, offset: int, reason: str, *, cut: bool = False) -> None:
        super().__init__(reason)
        self.offset, self.reason, self.cut = offset, reason, cut


@dataclass(slots=True)
class TensorFacts:
    """One TensorProto as stored: `spans` maps a data field's name to (offset, length) pieces."""

    path: str
    name: str = ""
    dims: list[int] = field(default_factory=list)
    dtype: int = 0
    external: list[tuple[str, str]] = field(default_factory=list)
    location: int = 0
    spans: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


@dataclass(slots=True)
class Walk:
    """What the walker kept.

    `unknown` holds (message path, field number, offset, length); `repeated` holds (message path,
    field) of single fields given twice; `texts` (path, offset, length) of strings and bytes;
    `end` is where the last whole known top-level field ends; `broken` why the walk stopped.
    """

    size: int
    tensors: list[TensorFacts] = field(default_factory=list)
    unknown: list[tuple[str, int, int, int]] = field(default_factory=list)
    repeated: list[tuple[str, str]] = field(default_factory=list)
    texts: list[tuple[str, int, int]] = field(default_factory=list)
    end: int = 0
    graph_seen: bool = False
    broken: Broken | None = None
    fields: int = 0


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    kind: int
    message: str | None
    repeated: bool


def _schema() -> dict[str, dict[int, _Field]]:
    tables: dict[str, dict[int, _Field]] = {}
    stack: list[Any] = [onnx.ModelProto.DESCRIPTOR]
    while stack:
        message = stack.pop()
        if message.full_name in tables:
            continue
        table = tables[message.full_name] = {}
        for entry in message.fields:
            inner = entry.message_type
            name = inner.full_name if inner is not None else None
            table[entry.number] = _Field(entry.name, entry.type, name, _is_repeated(entry))
            if inner is not None:
                stack.append(inner)
    return tables


def _is_repeated(entry: Any) -> bool:
    known = getattr(entry, "is_repeated", None)  # older protobuf has only `label`
    return bool(known) if known is not None else entry.label == 3


_ROOT = onnx.ModelProto.DESCRIPTOR.full_name
_TENSOR = onnx.TensorProto.DESCRIPTOR.full_name
_ENTRY = onnx.StringStringEntryProto.DESCRIPTOR.full_name
_TABLES = _schema()


def walk_file(path: Path) -> tuple[Walk, Buffer]:
    """Walk the file at `path`. The mapping is returned for reading spans; never raises `Broken`."""
    size = path.stat().st_size
    if size == 0:
        return Walk(0), b""
    with path.open("rb") as stream:
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    return walk(data), data


def walk(data: Buffer) -> Walk:
    """Walk `data`, a serialised ModelProto."""
    found = Walk(len(data))
    try:
        _message(data, 0, len(data), _ROOT, "model", 0, found, None)
    except Broken as problem:
        found.broken = problem
    return found


def read_varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    """The varint at `at` and the offset after it. Raises `Broken`."""
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise Broken(at, "a number longer than 10 bytes")
    raise Broken(at, "the file ends inside a number", cut=True)


def _message(
    data: Buffer,
    at: int,
    end: int,
    kind: str,
    path: str,
    depth: int,
    found: Walk,
    tensor: TensorFacts | None,
) -> None:
    if depth > MAX_DEPTH:
        raise Broken(at, f"messages nested deeper than {MAX_DEPTH}")
    table = _TABLES[kind]
    seen: dict[int, int] = {}
    if kind == _TENSOR:
        tensor = TensorFacts(path)
        found.tensors.append(tensor)
    while at < end:
        start = at
        found.fields += 1
        if found.fields > MAX_FIELDS:
            raise Broken(at, f"more than {MAX_FIELDS:,} fields")
        tag, at = read_varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise Broken(start, "field number 0")
        known = table.get(number)
        value, body, at = _content(data, at, end, wire, start)
        if at > end:
            raise Broken(start, "a field runs past the end", cut=known is not None)
        if known is None:
            found.unknown.append((path, number, start, at - start))
            continue
        seen[number] = seen.get(number, 0) + 1
        if seen[number] == 2 and not known.repeated:
            found.repeated.append((path, known.name))
        if wire == LENGTH and known.kind == _MESSAGE and known.message is not None:
            if known.message == _ENTRY:
                _entry(data, body, at, f"{path}.{known.name}", found, tensor, known.name)
            else:
                inner = f"{path}.{known.name}"
                if known.repeated:
                    inner += f"[{seen[number] - 1}]"
                _message(data, body, at, known.message, inner, depth + 1, found, None)
        elif kind == _TENSOR and tensor is not None:
            _tensor_field(data, tensor, number, wire, value, body, at)
        elif wire == LENGTH and known.kind in (_STRING, _BYTES) and known.name in _TEXTS:
            found.texts.append((f"{path}.{known.name}", body, at - body))
        if depth == 0:
            found.end = at
            found.graph_seen = found.graph_seen or known.name == "graph"


def _content(data: Buffer, at: int, end: int, wire: int, start: int) -> tuple[int, int, int]:
    """(number or length, where the bytes begin, where the field ends) of the field at `start`."""
    if wire == VARINT:
        value, after = read_varint(data, at, end)
        return value, at, after
    if wire == LENGTH:
        value, body = read_varint(data, at, end)
        return value, body, body + value
    if wire in (FIXED64, FIXED32):
        return 0, at, at + (8 if wire == FIXED64 else 4)
    raise Broken(start, f"wire type {wire}")


def _tensor_field(
    data: Buffer, tensor: TensorFacts, number: int, wire: int, value: int, body: int, at: int
) -> None:
    if number == 1 and wire == VARINT:
        tensor.dims.append(value - (1 << 64) if value >> 63 else value)
    elif number == 1 and wire == LENGTH:
        while body < at:
            value, body = read_varint(data, body, at)
            tensor.dims.append(value - (1 << 64) if value >> 63 else value)
    elif number == 2:
        tensor.dtype = value
    elif number == 8:
        tensor.name = bytes(data[body:at]).decode("utf-8", "replace")
    elif number == 14:
        tensor.location = value
    elif number in DATA_FIELDS:
        tensor.spans.setdefault(DATA_FIELDS[number], []).append((body, at - body))


def _entry(
    data: Buffer, at: int, end: int, path: str, found: Walk, tensor: TensorFacts | None, name: str
) -> None:
    """A key-value pair: external data entries go to the tensor, the rest to the texts."""
    pair = {1: b"", 2: b""}
    while at < end:
        start = at
        tag, at = read_varint(data, at, end)
        if tag & 7 != LENGTH:
            found.unknown.append((path, tag >> 3, start, end - start))
            return
        length, at = read_varint(data, at, end)
        if at + length > end:
            raise Broken(start, "a field runs past the end", cut=True)
        if tag >> 3 in pair:
            if length >= 16 and (tensor is None or name != "external_data"):
                found.texts.append((path, at, length))
            pair[tag >> 3] = bytes(data[at : at + min(length, 4096)])
        else:
            found.unknown.append((path, tag >> 3, start, at + length - start))
        at += length
    if tensor is not None and name == "external_data":
        key, value = (pair[i].decode("utf-8", "replace") for i in (1, 2))
        tensor.external.append((key, value))
