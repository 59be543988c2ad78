"""Stored tensors against their own description: two data fields, and dims that contradict bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from auditor.checks.file.onnx_wire import Buffer, TensorFacts, Walk
from auditor.checks.file.rules import finding, register
from auditor.checks.interface import Rule
from auditor.findings import Finding, Severity

DISAGREE = Rule(
    id="tensor.two-values",
    title="A tensor is stored twice with different values",
    severity=Severity.HIGH,
    why="The runtime takes one of the two data fields, a viewer or scanner may take the other: "
    "what was reviewed is not what runs.",
    remedy="Do not use the file; ask for a clean export.",
    formats=("onnx",),
    cwe="CWE-436",
    example="raw_data holds minus identity, float_data identity.",
)
TWO_FIELDS = Rule(
    id="tensor.two-fields",
    title="A tensor fills more than one data field",
    severity=Severity.MEDIUM,
    why="The ONNX standard allows one; readers differ in which one they take.",
    remedy="Re-save the model and compare its results.",
    formats=("onnx",),
    cwe="CWE-436",
    example="raw_data and float_data with the same numbers, or raw_data next to external data.",
)
SIZE = Rule(
    id="tensor.size",
    title="A tensor's dimensions contradict its bytes",
    severity=Severity.MEDIUM,
    why="The file is damaged or made by hand; a reader that trusts the dimensions reads beyond the "
    "data.",
    remedy="Ask for an undamaged file.",
    formats=("onnx",),
    cwe="CWE-130",
    example="dims 100x100, 12 bytes of raw_data.",
)
register(DISAGREE, TWO_FIELDS, SIZE)

FIELD_OF = {
    **dict.fromkeys(("FLOAT", "COMPLEX64"), "float_data"),
    **dict.fromkeys(("DOUBLE", "COMPLEX128"), "double_data"),
    **dict.fromkeys(("UINT32", "UINT64"), "uint64_data"),
    "INT64": "int64_data",
    "STRING": "string_data",
}
"""Typed data field by element type; every other type uses int32_data."""

FIXED = {"float_data": 4, "double_data": 8}
MAX_COMPARED = 1 << 22
BITS = {
    "INT4": 4,
    "UINT4": 4,
    "FLOAT4E2M1": 4,
    "INT2": 2,
    "UINT2": 2,
    "FLOAT6E2M3": 6,
    "FLOAT6E3M2": 6,
}


def tensor_findings(found: Walk, data: Buffer) -> Iterator[Finding]:
    """Findings about every stored tensor of the walk."""
    for tensor in found.tensors:
        yield from _one(tensor, data)


def type_name(number: int) -> str | None:
    """Name of an ONNX element type, None for a number the installed onnx does not know."""
    values = onnx.TensorProto.DataType
    return str(values.Name(number)) if number in values.values() else None


def expected_bytes(dims: list[int], dtype: str) -> int | None:
    """Bytes that `dims` of `dtype` need in raw form; None for strings and unknown types."""
    if dtype in ("STRING", "UNDEFINED"):
        return None
    count = 1
    for dim in dims:
        count *= dim
    if dtype in BITS:
        return -(-count * BITS[dtype] // 8)
    number = int(onnx.TensorProto.DataType.Value(dtype))
    return count * int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number)).itemsize)


def _one(tensor: TensorFacts, data: Buffer) -> Iterator[Finding]:
    place = tensor.name or tensor.path
    filled = {name: spans for name, spans in tensor.spans.items() if sum(n for _, n in spans) > 0}
    dtype = type_name(tensor.dtype)
    if len(filled) > 1:
        yield _compare(filled, data, dtype, place)
    if filled and tensor.location == 1:
        yield finding(
            TWO_FIELDS,
            f"{place!r} has external data and {', '.join(filled)} as well.",
            location=place,
        )
    if dtype is None:
        yield finding(
            SIZE, f"{place!r} has the unknown element type {tensor.dtype}.", location=place
        )
        return
    if any(dim < 0 for dim in tensor.dims):
        yield finding(SIZE, f"{place!r} has the dimensions {tensor.dims}.", location=place)
        return
    need = expected_bytes(tensor.dims, dtype)
    if need is None or tensor.location == 1 or tensor.path.startswith("model.graph.sparse"):
        return
    if "raw_data" in tensor.spans:
        have = sum(length for _, length in tensor.spans["raw_data"])
        if have != need:
            yield finding(
                SIZE,
                f"{place!r} of shape {tensor.dims} and type {dtype} needs {need:,} bytes, the file "
                f"holds {have:,}.",
                location=place,
            )
        return
    field = FIELD_OF.get(dtype, "int32_data")
    count = _count(filled.get(field, []), field, data)
    wanted = 1
    for dim in tensor.dims:
        wanted *= dim
    if dtype.startswith("COMPLEX"):
        wanted *= 2
    packed = dtype in BITS and count == -(-wanted * BITS[dtype] // 8)
    if count != wanted and not packed:
        yield finding(
            SIZE,
            f"{place!r} of shape {tensor.dims} needs {wanted:,} values, the file holds {count:,}.",
            location=place,
        )


def _count(spans: list[tuple[int, int]], field: str, data: Buffer) -> int:
    """Number of values in typed spans: fixed-size, or varints (one byte below 128 ends each)."""
    if field in FIXED:
        return sum(length // FIXED[field] for _, length in spans)
    total = 0
    for offset, length in spans:
        if length == 0:
            total += 1  # an unpacked value: the walker read it as one varint
            continue
        block = np.frombuffer(data, np.uint8, count=length, offset=offset)
        total += int(np.count_nonzero(block < 128))
        del block
    return total


def _compare(
    filled: dict[str, list[tuple[int, int]]],
    data: Buffer,
    dtype: str | None,
    place: str,
) -> Finding:
    names = ", ".join(filled)
    field = FIELD_OF.get(dtype or "", "int32_data")
    raw = _raw_values(filled.get("raw_data"), data, dtype)
    typed = _typed_values(filled.get(field), data, field)
    if raw is not None and typed is not None and raw.shape == typed.shape:
        different = int(np.count_nonzero(~np.isclose(raw, typed, equal_nan=True)))
        if different == 0 and len(filled) == 2:
            return finding(
                TWO_FIELDS, f"{place!r} fills {names} with the same values.", location=place
            )
        return finding(
            DISAGREE,
            f"{place!r} fills {names}; {different:,} of {raw.size:,} values differ.",
            location=place,
        )
    return finding(
        DISAGREE, f"{place!r} fills {names} with different amounts or types.", location=place
    )


def _raw_values(
    spans: list[tuple[int, int]] | None, data: Buffer, dtype: str | None
) -> NDArray[Any] | None:
    if not spans or dtype is None or dtype in BITS or dtype == "STRING":
        return None
    blob = b"".join(bytes(data[at : at + min(length, MAX_COMPARED)]) for at, length in spans)
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(dtype)))
    return np.frombuffer(blob[: len(blob) // kind.itemsize * kind.itemsize], kind).astype(
        np.float64
    )


def _typed_values(
    spans: list[tuple[int, int]] | None, data: Buffer, field: str
) -> NDArray[Any] | None:
    if not spans or field not in FIXED:
        return None if not spans or field == "string_data" else _varints(spans, data)
    blob = b"".join(bytes(data[at : at + min(length, MAX_COMPARED)]) for at, length in spans)
    kind = np.dtype(f"<f{FIXED[field]}")
    return np.frombuffer(blob[: len(blob) // kind.itemsize * kind.itemsize], kind).astype(
        np.float64
    )


def _varints(spans: list[tuple[int, int]], data: Buffer) -> NDArray[Any]:
    values: list[int] = []
    for offset, length in spans:
        value = shift = 0
        for byte in bytes(data[offset : offset + min(length, 1 << 16)]):
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 128:
                values.append(value - (1 << 64) if value >> 63 else value)
                value = shift = 0
    return np.asarray(values, np.float64)
