"""Recognise programs, archives, pickles and scripts inside bytes, by structure, not by magic.

Weights are random bytes: a two-byte magic turns up every 64 kB. Each match is therefore confirmed
by what must follow it.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable, Iterator

CHUNK = 1 << 22
MAX_SCAN = 1 << 29
"""Bytes scanned in one file at most."""


def _elf(data: bytes, at: int) -> bool:
    head = data[at : at + 24]
    return (
        len(head) >= 20
        and head[4] in (1, 2)
        and head[5] in (1, 2)
        and head[6] == 1
        and (head[16] | head[17]) in (0, 1, 2, 3, 4)
    )


def _elf_start(data: bytes, at: int) -> bool:
    """A cut ELF header at the very start of a blob is still an ELF header."""
    return at == 0 and len(data) >= 5 and data[4] in (0, 1, 2)


def _pe(data: bytes, at: int) -> bool:
    where = int.from_bytes(data[at + 60 : at + 64], "little")
    return 64 <= where < 4096 and data[at + where : at + where + 4] == b"PE\0\0"


def _pe_inside(data: bytes, at: int) -> bool:
    """A PE signature that an MZ header before it points to."""
    start = data.rfind(b"MZ", max(0, at - 4096), at)
    while start >= 0:
        if int.from_bytes(data[start + 60 : start + 64], "little") == at - start:
            return True
        start = data.rfind(b"MZ", max(0, at - 4096), start)
    return False


def _zip(data: bytes, at: int) -> bool:
    head = data[at : at + 30]
    if len(head) < 30:
        return False
    method = int.from_bytes(head[8:10], "little")
    length = int.from_bytes(head[26:28], "little")
    name = data[at + 30 : at + 30 + min(length, 64)]
    return method in (0, 8, 9, 12, 14, 93, 95) and 0 < length < 1024 and _printable(name)


def _zip_end(data: bytes, at: int) -> bool:
    tail = data[at : at + 22]
    disks, entries = tail[4:8], int.from_bytes(tail[10:12], "little")
    return len(tail) == 22 and disks == b"\0\0\0\0" and tail[8:10] == tail[10:12] and entries > 0


def _gzip(data: bytes, at: int) -> bool:
    if data[at + 3 : at + 4] not in {bytes([flag]) for flag in range(32)}:
        return False
    try:
        return len(zlib.decompressobj(31).decompress(data[at : at + 4096], 64)) >= 8
    except zlib.error:
        return False


def _macho(data: bytes, at: int) -> bool:
    head = data[at : at + 16]
    kind = int.from_bytes(head[12:16], "little")
    return len(head) == 16 and head[7] in (0, 1) and head[4] in (7, 12, 18) and 1 <= kind <= 12


def _java(data: bytes, at: int) -> bool:
    return (
        data[at + 4 : at + 6] == b"\0\0" and 45 <= int.from_bytes(data[at + 6 : at + 8], "big") < 90
    )


def _pickle(data: bytes, at: int) -> bool:
    if data[at + 1 : at + 2] not in (b"\2", b"\3", b"\4", b"\5"):
        return False
    head = data[at + 2 : at + 4096]
    call = re.search(
        rb"c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|\x8c.[\w.]+(?:\x94)?\x8c.[\w.]+(?:\x94)?\x93", head
    )
    return call is not None and re.search(rb"[R\x81bo]", head[call.end() :]) is not None


def _always(data: bytes, at: int) -> bool:
    del data, at
    return True


def _script(data: bytes, at: int) -> bool:
    line = data[at : at + 64].split(b"\n")[0]
    return re.match(rb"#! ?/(usr/)?(local/)?bin/[\w/ .-]+", line) is not None


MAGICS: tuple[tuple[bytes, str, Callable[[bytes, int], bool]], ...] = (
    (b"\x7fELF", "ELF executable", _elf),
    (b"MZ", "Windows executable", _pe),
    (b"PK\x03\x04", "zip archive", _zip),
    (b"PK\x05\x06", "zip archive", _zip_end),
    (b"\x1f\x8b\x08", "gzip stream", _gzip),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip archive", _always),
    (b"\xfd7zXZ\0", "xz stream", _always),
    (b"Rar!\x1a\x07", "RAR archive", _always),
    (b"\xcf\xfa\xed\xfe", "Mach-O executable", _macho),
    (b"\xca\xfe\xba\xbe", "Java class", _java),
    (b"\0asm\x01\0\0\0", "WebAssembly module", _always),
    (b"#!", "script", _script),
    (b"\x80", "pickle", _pickle),
)
_CODE = re.compile(
    rb"os\.system\s*\(|subprocess\.(?:Popen|run|call|check_output)|__import__\s*\(|"
    rb"\bexec\s*\(\s*(?:compile|base64|bytes|zlib|__)|\beval\s*\(\s*(?:compile|base64|__|input)|"
    rb"\bimport\s+(?:os|subprocess|socket|ctypes)\b|<script[\s>]|powershell(?:\.exe)?\s+-|"
    rb"/bin/(?:ba)?sh\b|\bcurl\s+-?\S*\s*https?://|\bwget\s+\S*https?://|base64\s+(?:-d|--decode)"
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{48,}={0,2}")
_COMMONEST = tuple(entry for entry in MAGICS if entry[0] in (b"\x7fELF", b"PK\x03\x04"))
_RARE = (
    *(entry for entry in MAGICS if len(entry[0]) > 2),
    (b"PE\0\0", "Windows executable", _pe_inside),
)
_PICKLED_CALL = re.compile(
    rb"(?:c|\x8c.)(?:os|posix|nt|subprocess|builtins|__builtin__|pty|socket|runpy|importlib)"
    rb"(?:\n|\x94?\x8c.)(?:system|popen|exec\w*|eval|Popen|run|call|check_output|spawn\w*|compile|"
    rb"__import__|import_module|getattr|run_path|run_module|open)(?:\n|\x94?\x93)",
    re.DOTALL,
)
"""A dangerous function named the way pickles name one: the protocol byte alone says nothing."""


def _printable(name: bytes) -> bool:
    return bool(name) and all(32 <= byte < 127 or byte >= 128 for byte in name)


def identify(data: bytes) -> str | None:
    """What `data` starts with: a program, archive, pickle or script; None otherwise."""
    for magic, kind, confirm in MAGICS:
        if data.startswith(magic) and (
            confirm(data, 0) or (magic == b"\x7fELF" and _elf_start(data, 0))
        ):
            return kind
    return None


def search(
    chunks: Iterator[tuple[int, bytes]], *, quick: bool = False
) -> Iterator[tuple[int, str]]:
    """Offsets and kinds of payloads anywhere in `chunks` of (offset, bytes).

    Only magics of three bytes or more are searched inside; the first chunk's start is identified
    with all of them. `quick` searches the two commonest only (ELF and zip), for large weights.
    """
    inside = _COMMONEST if quick else _RARE
    for index, (offset, data) in enumerate(chunks):
        if index == 0 and (kind := identify(data[:8192])) is not None:
            yield offset, kind
            continue
        for magic, kind, confirm in inside:
            at = data.find(magic)
            while at >= 0:
                if confirm(data, at):
                    yield offset + at, kind
                    break
                at = data.find(magic, at + 1)
        call = None if quick else _PICKLED_CALL.search(data)
        if call is not None:
            yield offset + call.start(), "pickle"


def code_in_text(data: bytes) -> str | None:
    """The first piece of `data` that reads like a command or code to run; None otherwise."""
    match = _CODE.search(data)
    if match is not None:
        return match.group(0).decode("latin-1")
    blob = _BASE64.search(data)
    if blob is None:
        return None
    try:
        hidden = base64.b64decode(blob.group(0)[: len(blob.group(0)) // 4 * 4])
    except ValueError:
        return None
    kind = identify(hidden)
    if kind is not None:
        return f"base64 of a {kind}"
    match = _CODE.search(hidden)
    return None if match is None else f"base64 of {match.group(0).decode('latin-1')}"
