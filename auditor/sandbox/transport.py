"""Messages between the parent and the model's process: JSON and plain arrays, never pickle.

A frame is ``b"AUD1"``, the header's length (4 bytes, little-endian), the header (JSON: kind, body,
and name, dtype and shape of each array) and then the arrays' bytes in C order. Everything a
reader sees is checked before it is believed: sizes before memory is asked for, types, nesting,
and no NaN or Infinity in JSON. Arrays may hold NaN; whoever computes with them decides.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import struct
from typing import Any, Literal, cast

import numpy as np

MAGIC = b"AUD1"
MAX_HEADER = 8 << 20
MAX_DEPTH = 64
MAX_DIGITS = 20
MAX_ARRAYS = 1 << 16
MAX_DIMENSIONS = 32
MAX_NAME = 1024
DTYPES = frozenset(
    [
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
    ]
)
KINDS = ("call", "ready", "event", "result", "error")
Kind = Literal["call", "ready", "event", "result", "error"]


class TransportError(ValueError):
    """A frame that cannot be sent, or that cannot be believed."""


class Closed(EOFError):
    """The other side closed the pipe between two frames."""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One message: `body` is JSON, `arrays` are plain numpy arrays by name.

    From a `Worker.call`, `kind` is ``"event"`` for those on the way and ``"result"`` or
    ``"error"`` (body ``{type, kind, message, traceback}``) for the last.
    """

    kind: Kind
    body: dict[str, Any]
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def encode(message: Message, limit: int) -> list[memoryview]:
    """The frame's parts, ready to be written one after the other.

    Raises TransportError for what may not travel: NaN in JSON, foreign dtypes, too many bytes.
    """
    specs, parts, total = [], [], 0
    for name, given in message.arrays.items():
        array = np.asarray(given)
        if array.dtype.name not in DTYPES:
            raise TransportError(f"array '{name}' has dtype {array.dtype}, which may not travel")
        array = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        specs.append({"name": name, "dtype": array.dtype.name, "shape": array.shape})
        total += array.nbytes
        if array.nbytes:
            parts.append(array.reshape(-1).view(np.uint8).data)
    _check_total(total, len(specs), limit)
    content = {"kind": message.kind, "body": message.body, "arrays": specs}
    try:
        header = json.dumps(content, allow_nan=False, default=_plain).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise TransportError(f"the message is not plain JSON: {error}") from error
    if len(header) > MAX_HEADER:
        raise TransportError(f"the message's JSON has {len(header)} bytes, over {MAX_HEADER}")
    return [memoryview(MAGIC + struct.pack("<I", len(header)) + header), *parts]


def send(stream: io.RawIOBase, message: Message, limit: int) -> None:
    """Write one frame; nothing is written when the message may not travel (TransportError)."""
    for part in encode(message, limit):
        rest = part
        while len(rest):
            rest = rest[stream.write(rest) or 0 :]


def receive(stream: io.RawIOBase, limit: int, *, trusted: bool = False) -> Message:
    """Read one frame.

    Lone surrogates, which no file or terminal would take, become U+FFFD unless `trusted` (the
    parent's paths may hold them).
    Raises Closed when the pipe ended between frames, TransportError for anything malformed.
    """
    start = _read(stream, 8, between_frames=True)
    if start[:4] != MAGIC:
        raise TransportError("a frame does not start as it must")
    (length,) = struct.unpack("<I", start[4:])
    if length > MAX_HEADER:
        raise TransportError(f"a frame announces {length} bytes of JSON, over {MAX_HEADER}")
    header = _parse(bytes(_read(stream, length)), keep_surrogates=trusted)
    kind, body, specs = header.get("kind"), header.get("body"), header.get("arrays")
    if kind not in KINDS or not isinstance(body, dict) or not isinstance(specs, list):
        raise TransportError("a frame's header lacks kind, body or arrays")
    checked = _check_specs(specs, limit)
    arrays: dict[str, np.ndarray] = {}
    for name, dtype, shape in checked:
        array = np.empty(shape, dtype=np.dtype(dtype).newbyteorder("<"))
        if array.nbytes:
            _fill(stream, array.reshape(-1).view(np.uint8).data)
        if dtype == "bool" and array.view(np.uint8).max(initial=0) > 1:
            raise TransportError(f"array '{name}' says bool and holds other bytes")
        arrays[name] = array
    return Message(cast(Kind, kind), body, arrays)


def _check_total(total: int, count: int, limit: int) -> None:
    if total > limit:
        raise TransportError(f"a message has {total} bytes of arrays, over {limit}")
    if count > MAX_ARRAYS:
        raise TransportError(f"a message has {count} arrays, over {MAX_ARRAYS}")


def _check_specs(specs: list[Any], limit: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of each announced array, believed only after every check."""
    checked, names, total = [], set(), 0
    _check_total(0, len(specs), limit)
    for spec in specs:
        if not isinstance(spec, dict):
            raise TransportError("an array's description is not an object")
        name, dtype, shape = spec.get("name"), spec.get("dtype"), spec.get("shape")
        if not isinstance(name, str) or len(name) > MAX_NAME or name in names:
            raise TransportError("an array's name is missing, too long or there twice")
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise TransportError("an array has a dtype that may not travel")
        if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
            raise TransportError("an array's shape is missing or too long")
        if any(type(size) is not int or not 0 <= size < 1 << 48 for size in shape):
            raise TransportError("an array's shape is not made of sizes")
        # Zeros are left out of the product: a shape such as (0, 2**47, 2**47) must not overflow.
        extent = math.prod(size for size in shape if size)
        total += extent * np.dtype(dtype).itemsize
        _check_total(total, len(specs), limit)
        names.add(name)
        checked.append((name, dtype, tuple(shape)))
    return checked


def _parse(raw: bytes, *, keep_surrogates: bool) -> dict[str, Any]:
    """The header as an object: strict JSON, bounded nesting and numbers."""
    try:
        value = json.loads(
            raw.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except TransportError:
        raise
    except (ValueError, RecursionError) as error:
        raise TransportError(f"a frame's header is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise TransportError("a frame's header is not an object")
    _check_depth(value)
    if not keep_surrogates and b"\\ud" in raw.lower():
        return cast(dict[str, Any], _without_surrogates(value))
    return cast(dict[str, Any], value)


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {str(_without_surrogates(k)): _without_surrogates(v) for k, v in value.items()}
    return value


def _check_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(v for v in item.values() if isinstance(v, dict | list))
            else:
                below.extend(v for v in item if isinstance(v, dict | list))
        if not below:
            return
        level = below
    raise TransportError(f"a frame's JSON is nested deeper than {MAX_DEPTH}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise TransportError("a frame's JSON holds a number that is not finite")
    return number


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise TransportError("a frame's JSON holds a number that is too large")
    return int(text)


def _refuse_constant(text: str) -> None:
    raise TransportError(f"a frame's JSON holds {text}")


def _plain(value: object) -> object:
    """numpy scalars and paths as JSON; anything else is a mistake of the operation's author."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} may not travel as JSON")


def _read(stream: io.RawIOBase, count: int, *, between_frames: bool = False) -> bytearray:
    data = bytearray(count)
    _fill(stream, memoryview(data), between_frames=between_frames)
    return data


def _fill(stream: io.RawIOBase, view: memoryview, *, between_frames: bool = False) -> None:
    done = 0
    while done < len(view):
        got = stream.readinto(view[done:])
        if not got:
            if between_frames and done == 0:
                raise Closed("the pipe was closed")
            raise TransportError("the pipe was closed in the middle of a frame")
        done += got
