"""Shared form of the built-in triggers: frozen dataclasses that go to JSON and back.

Arrays are stored as base64 of little-endian float32 with their shape. A manifest or report may
come from a stranger, so reading back checks types, sizes and finiteness before allocating.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from auditor.triggers.interface import Pixels, Trigger

if TYPE_CHECKING:
    from auditor.findings import Json

MAX_ELEMENTS = 3 * 4096 * 4096
"""Largest array read back from JSON: an image of 4096 x 4096 in colour."""


class BadTrigger(ValueError):
    """A trigger record or parameter that makes no sense; the message says which and why."""


def pack(array: Pixels) -> dict[str, Json]:
    """A float32 array as ``{"shape": [...], "base64": "..."}`` (little-endian)."""
    data = np.ascontiguousarray(array, dtype="<f4")
    return {"shape": list(data.shape), "base64": base64.b64encode(data.tobytes()).decode("ascii")}


def unpack(record: Json) -> Pixels:
    """Inverse of `pack`; nested lists are accepted too. Raises `BadTrigger`."""
    try:
        if isinstance(record, Mapping):
            shape = tuple(int(side) for side in record["shape"])
            if any(side < 1 for side in shape) or math.prod(shape) > MAX_ELEMENTS:
                raise BadTrigger(f"a trigger array of shape {shape} is not acceptable")
            data = base64.b64decode(str(record["base64"]), validate=True)
            array = np.frombuffer(data, dtype="<f4").reshape(shape).astype(np.float32)
        else:
            array = np.asarray(record, dtype=np.float32)
    except (KeyError, TypeError, binascii.Error) as problem:
        raise BadTrigger(f"a trigger array cannot be read: {problem}") from problem
    except ValueError as problem:
        if isinstance(problem, BadTrigger):
            raise
        raise BadTrigger(f"a trigger array cannot be read: {problem}") from problem
    if not np.isfinite(array).all():
        raise BadTrigger("a trigger array holds values that are not finite")
    return array


@dataclass(frozen=True, eq=False)
class RecordTrigger(Trigger):
    """Base of the built-in families: fields are the parameters, numbers, words, tuples or arrays.

    Two triggers are equal when their JSON is equal.
    """

    def to_json(self) -> dict[str, Json]:
        """``{"family": ..., field: value}``; arrays as in `pack`."""
        record: dict[str, Json] = {"family": self.family}
        for item in fields(self):
            value: Any = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                value = pack(value)
            elif isinstance(value, tuple):
                value = list(value)
            record[item.name] = value
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> Self:
        """The trigger of `record`; unknown fields and wrong types raise `BadTrigger`."""
        known = {item.name: str(item.type) for item in fields(cls)}
        arguments: dict[str, Any] = {}
        for key, value in record.items():
            if key == "family":
                continue
            if key not in known:
                raise BadTrigger(f"trigger family {cls.family} has no parameter {key!r}")
            arguments[key] = _convert(cls.family, key, known[key], value)
        try:
            return cls(**arguments)
        except TypeError as problem:
            raise BadTrigger(f"trigger family {cls.family}: {problem}") from problem

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RecordTrigger) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.family, self.name))


def _convert(family: str, key: str, kind: str, value: Json) -> Any:
    """`value` as the annotated field type `kind`, read with suspicion."""
    if kind == "Pixels":
        return unpack(value)
    try:
        if kind.startswith("tuple"):
            inner = int if "int" in kind else float
            return tuple(inner(item) for item in value)
        if kind == "int":
            if isinstance(value, bool) or int(value) != value:
                raise ValueError("not a whole number")
            return int(value)
        if kind == "float":
            number = float(value)
            if not math.isfinite(number):
                raise ValueError("not finite")
            return number
    except (TypeError, ValueError) as problem:
        raise BadTrigger(f"trigger family {family}: {key} = {value!r}: {problem}") from problem
    if not isinstance(value, str):
        raise BadTrigger(f"trigger family {family}: {key} must be a word, not {value!r}")
    return value


def require(condition: bool, message: str) -> None:
    """Raise `BadTrigger` with `message` unless `condition`."""
    if not condition:
        raise BadTrigger(message)


def clip(images: Pixels) -> Pixels:
    """`images` as float32 within 0..1."""
    return np.clip(images, 0.0, 1.0).astype(np.float32, copy=False)
