"""Copy a zip archive with some stored members' bytes replaced and a few members added.

Everything else stays byte for byte: order, alignment, compression, headers. What must follow a
changed member follows it: its checksums in the local header, data descriptor and directory. Added
members come last, aligned as torch aligns them. The result is renamed into place when complete.
Layout after PKWARE's APPNOTE 6.3.10, section 4.3.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from auditor.artifacts.torch_zip import STORED, Member
from auditor.errors import UnreadableArtifact

ALIGNMENT = 64
_END, _END64, _LOCATOR64, _CENTRAL = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02"
_DESCRIPTOR = b"PK\x07\x08"


def copy_archive(
    source: Path,
    target: Path,
    edits: Mapping[Member, bytes],
    added: Mapping[str, bytes],
) -> None:
    """Write `source` to `target` with `edits` in place (same lengths) and `added` appended.

    Raises `UnreadableArtifact` for an edited member that is compressed or when the archive's own
    structure contradicts itself, `ValueError` for an edit of another length.
    """
    with _replacing(target) as out, source.open("rb") as stream:
        directory_at, directory, size = _directory(stream)
        stream.seek(0)
        _copy(stream, out, directory_at)
        crcs: dict[int, tuple[int, int]] = {}
        for member, data in edits.items():
            crcs[member.header_offset] = (member.crc, _edit(out, member, data))
        out.seek(directory_at)
        entries = bytearray(directory)
        _patch_directory(entries, crcs)
        if not added:
            out.write(entries)
            stream.seek(directory_at + len(directory))
            _copy(stream, out, size - directory_at - len(directory))
            return
        extra = b"".join(_append(out, name, data) for name, data in added.items())
        start = out.tell()
        out.write(entries + extra)
        _write_end(out, start, len(entries) + len(extra), _count(directory) + len(added))


def _copy(stream: BinaryIO, out: BinaryIO, length: int) -> None:
    while length > 0:
        piece = stream.read(min(1 << 20, length))
        if not piece:
            raise UnreadableArtifact("the archive ends before its directory")
        out.write(piece)
        length -= len(piece)


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `target`, renamed to it at the end, removed if anything fails."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w+b") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _directory(stream: BinaryIO) -> tuple[int, bytes, int]:
    """(offset, bytes, file size) of the central directory."""
    size = stream.seek(0, 2)
    start = max(0, size - 22 - 0xFFFF)
    stream.seek(start)
    tail = stream.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) - end < 22:
        raise UnreadableArtifact("the zip directory is missing: the archive is truncated")
    length, offset = struct.unpack_from("<12xLL", tail, end)
    locator = tail[end - 20 : end] if end >= 20 else b""
    if locator[:4] == _LOCATOR64:
        stream.seek(struct.unpack_from("<8xQ", locator)[0])
        record = stream.read(56)
        if record[:4] == _END64 and len(record) == 56:
            length, offset = struct.unpack_from("<40xQQ", record)
    if offset + length > size:
        raise UnreadableArtifact("the zip directory lies outside the file")
    stream.seek(offset)
    directory = stream.read(length)
    if directory[:4] != _CENTRAL:
        raise UnreadableArtifact("the zip directory is not where the archive says")
    return offset, directory, size


def _edit(out: BinaryIO, member: Member, data: bytes) -> int:
    """Put `data` in place of the member's bytes; returns the new checksum."""
    if member.method != STORED or member.encrypted or member.data_offset < 0:
        raise UnreadableArtifact(f"archive member {member.name!r} is not stored plainly")
    if len(data) != member.size:
        raise ValueError(f"{member.name}: {len(data)} bytes cannot replace {member.size}")
    crc = zlib.crc32(data)
    out.seek(member.data_offset)
    out.write(data)
    out.seek(member.header_offset + 14)
    if struct.unpack("<L", out.read(4))[0] == member.crc and member.crc:
        out.seek(member.header_offset + 14)
        out.write(struct.pack("<L", crc))
    out.seek(member.data_offset + member.size)
    descriptor = out.read(8)
    if descriptor == _DESCRIPTOR + struct.pack("<L", member.crc):
        out.seek(member.data_offset + member.size + 4)
        out.write(struct.pack("<L", crc))
    return crc


def _patch_directory(entries: bytearray, crcs: Mapping[int, tuple[int, int]]) -> None:
    position = 0
    left = dict(crcs)
    while position + 46 <= len(entries) and entries[position : position + 4] == _CENTRAL:
        crc = struct.unpack_from("<16xL", entries, position)[0]
        n, m, k = struct.unpack_from("<28xHHH", entries, position)
        offset = struct.unpack_from("<42xL", entries, position)[0]
        if offset == 0xFFFFFFFF:
            offset = _offset64(bytes(entries[position : position + 46 + n + m]), n)
        if offset in left and left[offset][0] == crc:
            struct.pack_into("<L", entries, position + 16, left.pop(offset)[1])
        position += 46 + n + m + k
    if left:
        raise UnreadableArtifact("the zip directory does not list a member that should change")


def _offset64(entry: bytes, name_length: int) -> int:
    """Header offset from the zip64 extra field of one directory entry."""
    packed, size = struct.unpack_from("<20xLL", entry)
    skip = 8 * ((packed == 0xFFFFFFFF) + (size == 0xFFFFFFFF))
    extra, position = entry[46 + name_length :], 0
    while position + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, position)
        if tag == 1 and length >= skip + 8:
            return int(struct.unpack_from("<Q", extra, position + 4 + skip)[0])
        position += 4 + length
    return -1


def _count(directory: bytes) -> int:
    position = found = 0
    while position + 46 <= len(directory) and directory[position : position + 4] == _CENTRAL:
        position += 46 + sum(struct.unpack_from("<28xHHH", directory, position))
        found += 1
    return found


def _append(out: BinaryIO, name: str, data: bytes) -> bytes:
    """Write a stored member at the current place; returns its directory entry."""
    raw, start, crc = name.encode(), out.tell(), zlib.crc32(data)
    padding = -(start + 30 + len(raw) + 4) % ALIGNMENT
    extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    common = struct.pack("<HHHHLLL", 0x800, STORED, 0, 0, crc, len(data), len(data))
    out.write(b"PK\x03\x04\x14\x00" + common + struct.pack("<HH", len(raw), len(extra)))
    out.write(raw + extra + data)
    wide = b""
    low = start
    if start >= 0xFFFFFFFF:
        wide, low = struct.pack("<HHQ", 1, 8, start), 0xFFFFFFFF
    tail = struct.pack("<HHHHHLL", len(raw), len(wide), 0, 0, 0, 0, low)
    return _CENTRAL + struct.pack("<HH", 0x14, 0x14) + common + tail + raw + wide


def _write_end(out: BinaryIO, start: int, length: int, count: int) -> None:
    end = out.tell()
    record = struct.pack("<QHHLLQQQQ", 44, 0x2D, 0x2D, 0, 0, count, count, length, start)
    out.write(_END64 + record)
    out.write(_LOCATOR64 + struct.pack("<LQL", 0, end, 1))
    small = (min(count, 0xFFFF), min(length, 0xFFFFFFFF), min(start, 0xFFFFFFFF))
    out.write(_END + struct.pack("<HHHHLLH", 0, 0, small[0], small[0], small[1], small[2], 0))
    out.truncate()
