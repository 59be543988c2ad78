"""Editing a protobuf file in place, so that what is not edited stays byte for byte.

Parsing and serializing again would keep the meaning but not the bytes (field order, packing,
unknown fields). Here a message is a sequence of byte ranges, and an edit replaces some of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_FIXED = {1: 8, 5: 4}


@dataclass(frozen=True, slots=True)
class Field:
    """One field: number, wire type, the range of the whole field and of its payload."""

    number: int
    wire: int
    start: int
    payload: int
    end: int

    def of(self, data: bytes) -> bytes:
        """The payload's bytes."""
        return data[self.payload : self.end]


def fields(data: bytes) -> Iterator[Field]:
    """The fields of one message, in file order. Raises `ValueError` when it is damaged."""
    at = 0
    while at < len(data):
        start = at
        tag, at = read_varint(data, at)
        wire = tag & 7
        payload = at
        if wire == 0:
            _, at = read_varint(data, at)
        elif wire == 2:
            length, payload = read_varint(data, at)
            at = payload + length
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise ValueError(f"unknown wire type {wire}")
        if at > len(data):
            raise ValueError("a field runs past the end of its message")
        yield Field(tag >> 3, wire, start, payload, at)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer and where it ends."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("damaged integer")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def varint(value: int) -> bytes:
    """`value` encoded."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def splice(data: bytes, edits: list[tuple[Field, bytes]], appended: bytes = b"") -> bytes:
    """`data` with whole fields replaced (by nothing: removed) and bytes appended."""
    parts, at = [], 0
    for field, replacement in sorted(edits, key=lambda edit: edit[0].start):
        parts += [data[at : field.start], replacement]
        at = field.end
    return b"".join([*parts, data[at:], appended])


def text(data: bytes, number: int) -> str:
    """The last string field `number` of a message, empty when absent."""
    found = b""
    for field in fields(data):
        if field.number == number and field.wire == 2:
            found = field.of(data)
    return found.decode("utf-8", "replace")
