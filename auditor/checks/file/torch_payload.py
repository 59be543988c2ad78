"""Members by their contents: executables, libraries, scripts and archives under any name."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from auditor.artifacts.torch_archive import Member, TorchArchive
from auditor.artifacts.torch_unpickle import interpret_pickle
from auditor.checks.file.rules import finding, register
from auditor.checks.file.torch_common import EITHER, archive_of, looks_pickled, with_nested
from auditor.checks.interface import FileCheck, FileContext, Rule
from auditor.findings import Finding, Outcome, Severity

NATIVE = Rule(
    "torch.payload.native",
    "Machine code inside the archive",
    Severity.HIGH,
    "A model is weights and operators; a program or library in it waits for somebody to start it.",
    "Do not load it. Ask for a model without compiled parts and scan the bytes for malware.",
    EITHER,
    cwe="CWE-506",
    example="An ELF file stored as the weight data/3.",
)
LIBRARY = Rule(
    "torch.payload.library",
    "A compiled library that loading the archive would run",
    Severity.HIGH,
    "An AOTInductor package loads its shared library into your process: it can do anything.",
    "Ask for an exported program (torch.export.save) without compiled code.",
    ("pt2",),
    cwe="CWE-829",
    example="data/aotinductor/model/model.so in a .pt2 file.",
    blocks_run=True,
)
SCRIPT = Rule(
    "torch.payload.script",
    "A script inside the archive",
    Severity.HIGH,
    "Program text that is no TorchScript has no place in a model; something may run it.",
    "Read the script; ask for a model without it.",
    EITHER,
    cwe="CWE-506",
    example="A member extra/setup.sh that starts with #!/bin/sh.",
)
ARCHIVE = Rule(
    "torch.payload.archive",
    "An archive inside the archive",
    Severity.MEDIUM,
    "Nested archives hide files from scanners.",
    "Unpack it in a sandbox and look, or ask for a model without it.",
    EITHER,
    cwe="CWE-506",
    example="A gzip file stored as the weight data/0.",
)
PICKLED = Rule(
    "torch.payload.pickle",
    "A pickle under an innocent name",
    Severity.MEDIUM,
    "Nothing in torch stores a pickle there; it is hidden from readers that go by names.",
    "Look at what it holds before anything loads it.",
    EITHER,
    cwe="CWE-502",
    example="data/7 that holds a pickle instead of numbers.",
)
RULES = (NATIVE, LIBRARY, SCRIPT, ARCHIVE, PICKLED)
register(*RULES)

_CHUNK = 8 << 20
_OVERLAP = 4096
_LIBRARY_NAME = re.compile(
    r"\.(so|dylib|dll|pyd|o|a|cubin|hsaco|ptx|cpp|cu|c|h|exe)(\.\d+)*$", re.I
)
_SCRIPT = re.compile(rb"#!/(usr/|bin/|usr/bin/env |system/)[\w./ -]{2,60}")
_SCRIPT_TEXT = re.compile(
    rb"(?mi)^\s*(import (os|subprocess|socket|ctypes|sys)\b|from (os|subprocess|socket) import"
    rb"|@echo off|powershell(\.exe)? -|<script\b|<\?php|Set-ExecutionPolicy|IEX ?\()"
)
_SHEBANG_NAMES = re.compile(r"\.(sh|bash|bat|cmd|ps1|vbs|js|py|pyc|rb|pl|php)$", re.I)
# Magic numbers strong enough to be trusted anywhere in a file of random-looking weights.
_NATIVE = (
    (b"\x7fELF", 0, re.compile(rb"\x7fELF[\x01\x02][\x01\x02]\x01[\x00-\x12]"), "ELF"),
    (
        b"\xfa\xed\xfe",
        1,
        re.compile(rb"[\xcf\xce]\xfa\xed\xfe[\x07\x0c\x12]\x00\x00[\x00\x01]"),
        "Mach-O",
    ),
)
_START_ONLY = (
    (re.compile(rb"\x00asm\x01\x00\x00\x00"), "WebAssembly"),
    (re.compile(rb"dex\n03[5-9]\x00"), "DEX"),
    (re.compile(rb"\xca\xfe\xba\xbe\x00\x00\x00[\x00-\x14]"), "Mach-O"),
    (re.compile(rb"\xca\xfe\xba\xbe\x00[\x00-\x03]\x00[\x2d-\x50]"), "Java class"),
)
_STARTS = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"BZh91AY&SY", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstandard"),
    (b"MSCF\x00\x00\x00\x00", "cabinet"),
    (b"!<arch>\n", "ar"),
)
_ZIP = re.compile(rb"PK\x03\x04[\x0a-\x3f]\x00[\x00-\xff]{2}[\x00\x08\x09\x0c\x0e]\x00")


def native_code(data: bytes, *, at_start: bool = True) -> tuple[int, str] | None:
    """(offset, kind) of the first executable header in `data`, or None.

    Headers are checked beyond their magic number, so that random weights do not match. `at_start`
    says that `data` begins a member: weaker magic numbers count there.
    """
    if at_start:
        for pattern, kind in _START_ONLY:
            if pattern.match(data):
                return 0, kind
        if data.startswith(b"MZ") and _is_pe(data, 0):
            return 0, "PE (Windows)"
    for magic, shift, pattern, kind in _NATIVE:
        for place in _places(data, magic):
            if pattern.match(data, max(0, place - shift)):
                return place - shift, kind
    for place in _places(data, b"This program cannot be run in DOS mode"):
        start = data.rfind(b"MZ", max(0, place - 256), place)
        if start >= 0 and _is_pe(data, start):
            return start, "PE (Windows)"
    return None


def _places(data: bytes, mark: bytes) -> Iterator[int]:
    """Offsets of `mark` in `data` (``bytes.find`` is many times faster than a pattern)."""
    position = data.find(mark)
    while position >= 0:
        yield position
        position = data.find(mark, position + 1)


def _is_pe(data: bytes, start: int) -> bool:
    if start + 64 > len(data):
        return False
    header = struct.unpack_from("<L", data, start + 60)[0]
    stub = data[start + 64 : start + 256]
    signed = header < 4096 and data[start + header : start + header + 4] == b"PE\0\0"
    return signed or b"This program cannot be run in DOS mode" in stub


def _chunks(archive: TorchArchive, member: Member) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) over the whole member, neighbours overlapping by `_OVERLAP`."""
    if member.method == 0:
        for offset in range(0, member.compressed_size, _CHUNK):
            length = min(_CHUNK + _OVERLAP, member.compressed_size - offset)
            yield offset, archive.read_at(member.data_offset + offset, length)
    else:
        yield 0, archive.peek(member, 4 * _CHUNK)


def _tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def member_findings(archive: TorchArchive, member: Member, where: str) -> Iterator[Finding]:
    """What the member's bytes are, whatever its name says."""
    name = member.name.partition("/")[2] or member.name
    head = archive.peek(member, 1024)
    for offset, block in _chunks(archive, member):
        if hit := native_code(block, at_start=not offset):
            place = f"{hit[1]} at byte {offset + hit[0]} of {name!r} ({member.size} bytes)"
            aot = archive.kind == "pt2" and hit[0] == 0 and _LIBRARY_NAME.search(name)
            yield finding(LIBRARY if aot else NATIVE, place, location=where)
            return
        for start in _places(block, b"#!/"):
            if match := _SCRIPT.match(block, start):
                text = match.group().decode("latin-1")
                place = f"{text!r} at byte {offset + start} of {name!r}"
                yield finding(SCRIPT, place, location=where)
                return
    if archive.kind == "pt2" and _LIBRARY_NAME.search(name):
        yield finding(LIBRARY, f"compiled or source code {name!r}", location=where)
    elif _SHEBANG_NAMES.search(name) and not name.startswith("code/"):
        yield finding(SCRIPT, f"a script by its name: {name!r}", location=where)
    elif not name.startswith("code/") and (match := _SCRIPT_TEXT.search(head)):
        yield finding(SCRIPT, f"{name!r} holds {match.group()[:80]!r}", location=where)
    for magic, kind in _STARTS:
        if head.startswith(magic):
            yield finding(ARCHIVE, f"{name!r} is a {kind} archive", location=where)
    if _tar(head):
        yield finding(ARCHIVE, f"{name!r} is a tar archive", location=where)
    yield from _zip_or_pickle(archive, member, name, where, head)


_EXPECTED_ZIP = re.compile(r"(serialized_\w+|data/sample_inputs/\w+|data/\w+/\w+)(\.pt)?$")


def _zip_or_pickle(
    archive: TorchArchive, member: Member, name: str, where: str, head: bytes
) -> Iterator[Finding]:
    if _ZIP.match(head) and not (archive.kind == "pt2" and _EXPECTED_ZIP.fullmatch(name)):
        yield finding(ARCHIVE, f"{name!r} is a zip archive", location=where)
    named = name.endswith(("pkl", ".pickle", ".pt", ".pth"))
    if not named and looks_pickled(head) and member.size < 64 << 20:
        found = interpret_pickle(archive.peek(member, member.size))
        if not found.error and sum(found.opcodes.values()) > 2:
            seen = ", ".join(sorted({g.full for g in found.globals})[:5]) or "plain values"
            yield finding(PICKLED, f"{name!r} is a pickle ({seen})", location=where)


class TorchPayloadCheck(FileCheck):
    """Every member, by content: also inside weights and in nested archives."""

    name = "file.torch.payload"
    title = "What the members really are"
    doc = (
        "Looks for executable headers (ELF, PE, Mach-O, WebAssembly), scripts, archives and "
        "pickles in every member. Wrong when an honest archive ships one among its extra files."
    )
    default_severity = Severity.HIGH

    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield a finding for each member that is something else than its name says."""
        for prefix, archive in with_nested(archive_of(context)):
            for member in archive.all_members:
                if member.size and member.data_offset >= 0 and not member.encrypted:
                    yield from member_findings(archive, member, prefix + member.name)


CHECKS = (TorchPayloadCheck,)
