"""A zip reader for hostile archives: what both directories say, and where they disagree.

`zipfile` hides what an auditor wants to see: it corrects offsets for prepended data, lets the last
of two equal names win and ignores most of the local headers, while torch's reader (miniz) does
none of that. This reader trusts nothing, corrects nothing and lists every disagreement.
Layout after PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from auditor.errors import UnreadableArtifact

STORED, DEFLATED = 0, 8
MAX_MEMBERS = 200_000
MAX_DIRECTORY = 256 << 20
_END, _END64, _LOCATOR64, _CENTRAL, _LOCAL = (
    b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02", b"PK\x03\x04"
)  # fmt: skip
_U32, _U16 = 0xFFFFFFFF, 0xFFFF
_CHUNK = 1 << 20
_DESCRIPTOR = 24  # a data descriptor after the bytes: 12, 16, 20 or 24 bytes


@dataclass(frozen=True, slots=True)
class Member:
    """One entry as the central directory lists it, `data_offset` taken from its local header.

    `data_offset` is -1 when the local header cannot be read. Offsets count from the file's start.
    """

    name: str
    size: int
    compressed_size: int
    method: int
    flags: int
    crc: int
    header_offset: int
    data_offset: int
    unix_mode: int

    @property
    def is_symlink(self) -> bool:
        """True when the Unix mode says symbolic link."""
        return self.unix_mode & 0xF000 == 0xA000

    @property
    def encrypted(self) -> bool:
        """True when the entry's bytes are encrypted."""
        return bool(self.flags & 0x1)

    @property
    def ratio(self) -> float:
        """Bytes out per byte in."""
        return self.size / max(1, self.compressed_size)


@dataclass(frozen=True, slots=True)
class Problem:
    """A disagreement in an archive: `kind` is a stable word, `where` a member name or ''."""

    kind: str
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Directory:
    """Everything read from the zip structure."""

    members: tuple[Member, ...]
    problems: tuple[Problem, ...]
    size: int


def _at(stream: BinaryIO, offset: int, length: int) -> bytes:
    if not (0 <= offset <= sys.maxsize) or length < 0:  # 64-bit fields may claim any place
        return b""
    stream.seek(offset)
    return stream.read(length)


def _find_end(stream: BinaryIO, size: int, problems: list[Problem]) -> tuple[int, bytes]:
    """Offset and 22 bytes of the end record; notes trailing bytes and rival end records."""
    start = max(0, size - 22 - _U16)
    tail = _at(stream, start, size - start)
    position = tail.rfind(_END)
    while position >= 0 and len(tail) - position < 22:
        position = tail.rfind(_END, 0, position)
    if position < 0:
        raise UnreadableArtifact("the zip directory is missing: the archive is truncated")
    record = tail[position : position + 22]
    comment = struct.unpack_from("<H", record, 20)[0]
    trailing = len(tail) - position - 22 - comment
    if trailing:
        problems.append(Problem("trailing", "", f"{trailing} bytes follow the zip's end record"))
    elif comment:
        problems.append(Problem("comment", "", f"the zip carries a comment of {comment} bytes"))
    return start + position, record


def _locate(stream: BinaryIO, size: int, problems: list[Problem]) -> tuple[int, int, int, int]:
    """(entries, directory offset as stored, directory size, end of directory)."""
    end, record = _find_end(stream, size, problems)
    disk, _, _, entries, length, offset, _ = struct.unpack("<4x4H2LH", record)
    if disk not in (0, _U16):
        problems.append(Problem("structure", "", "the zip claims to be one volume of several"))
    stop = end
    locator = _at(stream, end - 20, 20)
    if locator[:4] == _LOCATOR64 and len(locator) == 20:
        where = struct.unpack_from("<Q", locator, 8)[0]
        big = _at(stream, where, 56)
        if len(big) == 56 and big[:4] == _END64:
            entries64, length64, offset64 = struct.unpack_from("<QQQ", big, 32)
            pairs = ((entries, entries64, _U16), (length, length64, _U32), (offset, offset64, _U32))
            if any(small not in (large, mark) for small, large, mark in pairs):
                problems.append(Problem("structure", "", "the zip's two end records disagree"))
            entries, length, offset, stop = entries64, length64, offset64, where
        else:
            problems.append(Problem("structure", "", "the zip64 end record is missing"))
    return entries, offset, length, stop


def _zip64(extra: bytes, values: list[int]) -> list[int]:
    """`values` (size, compressed, offset) with the 64-bit ones filled in from the extra field."""
    position = 0
    while position + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, position)
        body = extra[position + 4 : position + 4 + length]
        position += 4 + length
        if tag != 1:
            continue
        for index, value in enumerate(values):
            if value == _U32 and len(body) >= 8:
                values[index] = struct.unpack_from("<Q", body)[0]
                body = body[8:]
        break
    return values


def _name(raw: bytes, flags: int) -> str:
    try:
        return raw.decode("utf-8" if flags & 0x800 or raw.isascii() else "cp437")
    except UnicodeDecodeError:
        return raw.decode("cp437")


def _local(stream: BinaryIO, member: Member, problems: list[Problem]) -> int:
    """Offset of the member's bytes by its local header (-1 if there is none); notes differences."""

    def note(kind: str, text: str) -> None:
        problems.append(Problem(kind, member.name, text))

    header = _at(stream, member.header_offset, 30)
    if len(header) < 30 or header[:4] != _LOCAL:
        note("local", "no local header stands where the directory points")
        return -1
    flags, method, crc, packed, size, name_length, extra_length = struct.unpack(
        "<6x2H4x3L2H", header
    )
    raw = _at(stream, member.header_offset + 30, name_length + extra_length)
    local_name = _name(raw[:name_length], flags)
    if local_name != member.name:
        note("local", f"its local header calls it {local_name[:200]!r}")
    size, packed = _zip64(raw[name_length:], [size, packed])
    if method != member.method or (flags ^ member.flags) & 0x1:
        note("local", "the two headers disagree on compression or encryption")
    deferred = flags & 0x8 and not size and not packed  # sizes follow the bytes instead
    if not deferred and (size, packed) != (member.size, member.compressed_size):
        note("local", "the two headers disagree on the size")
    if not (flags & 0x8 and not crc) and crc != member.crc:
        note("local", "the two headers disagree on the checksum")
    return int(member.header_offset) + 30 + int(name_length) + int(extra_length)


def _central(stream: BinaryIO, start: int, length: int, entries: int) -> list[Member]:
    """Members of the central directory, without local headers (`data_offset` -1)."""
    if length > MAX_DIRECTORY or entries > MAX_MEMBERS:
        raise UnreadableArtifact("the zip directory is larger than any model needs")
    block = _at(stream, start, length)
    members: list[Member] = []
    position = 0
    while position + 46 <= len(block) and block[position : position + 4] == _CENTRAL:
        _, flags, method, crc, packed, size, n, m, k, attributes, offset = struct.unpack_from(
            "<4xHxxHH4xLLLHHH4xLL", block, position
        )
        body = block[position + 46 : position + 46 + n + m]
        size, packed, offset = _zip64(body[n:], [size, packed, offset])
        name = _name(body[:n], flags)
        members.append(Member(name, size, packed, method, flags, crc, offset, -1, attributes >> 16))
        position += 46 + n + m + k
        if len(members) > MAX_MEMBERS:
            raise UnreadableArtifact("the zip directory is larger than any model needs")
    return members


def _layout(stream: BinaryIO, members: list[Member], stop: int, problems: list[Problem]) -> None:
    """Prepended data, overlapping members, and bytes between members that nothing explains."""
    spans = sorted(
        (m.header_offset, m.data_offset + m.compressed_size, m.name)
        for m in members
        if m.data_offset >= 0
    )
    end = 0
    for start, finish, name in [*spans, (stop, stop, "")]:
        gap = start - end
        where = name or "the directory"
        if gap < 0:
            problems.append(Problem("overlap", name, f"{where} starts inside another member"))
        elif end == 0 and gap:
            problems.append(Problem("prepended", "", f"{gap} bytes precede the first member"))
        elif gap > _DESCRIPTOR or _at(stream, end, min(gap, 4)) == _LOCAL:
            text = f"{gap} bytes before {where} belong to no member"
            problems.append(Problem("gap", name, text))
        end = max(end, finish)


def read_directory(stream: BinaryIO) -> Directory:
    """Read both directories of the zip in `stream`. Raises `UnreadableArtifact` when there is none.

    Kinds of `Problem`: ``trailing``, ``prepended``, ``comment``, ``structure``, ``local`` (the two
    headers of a member disagree), ``overlap``, ``gap``, ``bounds``.
    """
    stream.seek(0, 2)
    size = stream.tell()
    problems: list[Problem] = []
    entries, offset, length, stop = _locate(stream, size, problems)
    start = stop - length
    if start != offset:
        text = f"the directory stands {start - offset} bytes from where the end record says"
        problems.append(Problem("structure", "", text))
    start = offset if _at(stream, offset, 4) == _CENTRAL else start
    found = _central(stream, start, length, entries)
    if len(found) != entries:
        text = f"the end record announces {entries} members, the directory lists {len(found)}"
        problems.append(Problem("structure", "", text))
    if not found:
        raise UnreadableArtifact("the zip directory lists no members")
    members: list[Member] = []
    for entry in found:
        data = _local(stream, entry, problems)
        if data >= 0 and data + entry.compressed_size > size:
            problems.append(Problem("bounds", entry.name, "its bytes end outside the file"))
        fields = (entry.name, entry.size, entry.compressed_size, entry.method, entry.flags)
        members.append(Member(*fields, entry.crc, entry.header_offset, data, entry.unix_mode))
    _layout(stream, members, start, problems)
    return Directory(tuple(members), tuple(problems), size)


def read_member(open_stream: Callable[[], BinaryIO], member: Member, limit: int) -> bytes:
    """At most `limit` bytes of `member`, decompressed.

    Raises `UnreadableArtifact` when it is larger, encrypted, packed by an unknown method, cut off,
    or does not match its checksum.
    """

    def refuse(reason: str) -> UnreadableArtifact:
        return UnreadableArtifact(f"archive member {member.name[:200]!r}: {reason}")

    if member.data_offset < 0:
        raise refuse("it has no local header")
    if member.encrypted:
        raise refuse("it is encrypted")
    if member.size > limit:
        raise refuse(f"it unpacks to {member.size} bytes, more than the {limit} allowed here")
    with open_stream() as stream:
        data = read_span(stream, member, member.size)
    if len(data) != member.size:
        raise refuse("its bytes are cut off or unpack to another size")
    if zlib.crc32(data) != member.crc:
        raise refuse("its checksum is wrong")
    return data


def read_span(stream: BinaryIO, member: Member, limit: int) -> bytes:
    """The first `limit` bytes of `member`, decompressed, checksum not verified.

    Raises `UnreadableArtifact` for an unknown or broken compression.
    """
    if member.method == STORED:
        return _at(stream, member.data_offset, min(limit, member.compressed_size))
    if member.method != DEFLATED:
        text = f"archive member {member.name[:200]!r} is packed by unknown method {member.method}"
        raise UnreadableArtifact(text)
    inflate = zlib.decompressobj(-15)
    out, total, left = [], 0, member.compressed_size
    stream.seek(member.data_offset)
    try:
        while total < limit and not inflate.eof:
            feed = inflate.unconsumed_tail
            if not feed:
                feed = stream.read(min(_CHUNK, left))
                left -= len(feed)
                if not feed:
                    break
            piece = inflate.decompress(feed, limit - total)
            out.append(piece)
            total += len(piece)
    except zlib.error as error:
        text = f"archive member {member.name[:200]!r} does not unpack: {error}"
        raise UnreadableArtifact(text) from None
    return b"".join(out)
