"""External data: does every reference stay in the folder and inside its file?"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from auditor.checks.file import payload
from auditor.checks.file.onnx_tensor_facts import expected_bytes, type_name
from auditor.checks.file.onnx_wire import TensorFacts, Walk
from auditor.checks.file.rules import finding, register
from auditor.checks.interface import Rule
from auditor.findings import Finding, Severity

OUTSIDE = Rule(
    id="external.outside",
    title="External data outside the model's folder",
    severity=Severity.CRITICAL,
    why="Loading the model makes the runtime read a file of the machine that has nothing to do "
    "with it; its content can leak through the results.",
    remedy="Do not load the model.",
    formats=("onnx",),
    cwe="CWE-22",
    example="location = ../../etc/passwd",
    blocks_run=True,
)
LINKED = Rule(
    id="external.link",
    title="External data is a link or no ordinary file",
    severity=Severity.HIGH,
    why="A link inside the folder reads a file elsewhere; a pipe or device can hang the reader.",
    remedy="Replace the link by the file itself if you trust where it points.",
    formats=("onnx",),
    cwe="CWE-59",
    example="weights.bin -> /home/user/.ssh/id_ed25519",
    blocks_run=True,
)
RANGE = Rule(
    id="external.range",
    title="External data offsets or lengths do not fit",
    severity=Severity.MEDIUM,
    why="Negative, overlapping or oversized ranges make readers take bytes that belong to "
    "something else, and different readers different ones.",
    remedy="Ask for a clean export.",
    formats=("onnx",),
    cwe="CWE-125",
    example="offset = -8, or two tensors whose ranges overlap by half.",
)
UNKNOWN_KEY = Rule(
    id="external.unknown-key",
    title="External data with keys the standard does not define",
    severity=Severity.MEDIUM,
    why="Some readers set every key as an attribute of an object, so an invented key can change "
    "how they read.",
    remedy="Ask for a clean export.",
    formats=("onnx",),
    cwe="CWE-915",
    example="a key `__class__` beside location and offset.",
)
UNEXPLAINED = Rule(
    id="external.unexplained",
    title="Bytes in the external file that no tensor uses",
    severity=Severity.MEDIUM,
    why="They are invisible to every reader of the model and can carry anything.",
    remedy="Re-save the model with external data and compare sizes.",
    formats=("onnx",),
    cwe="CWE-912",
    example="model.data is 1 MB longer than its last tensor.",
)
MISSING = Rule(
    id="external.missing",
    title="External data file is missing",
    severity=Severity.MEDIUM,
    why="The model cannot be loaded, and a file put there later would be trusted unseen.",
    remedy="Get all the files of the model.",
    formats=("onnx",),
    example="location = weights.bin, no such file beside the model.",
)
register(OUTSIDE, LINKED, RANGE, UNKNOWN_KEY, UNEXPLAINED, MISSING)

KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
ALIGNMENT = 1 << 16
"""Writers pad to pages of up to 64 kB: zero bytes of less than that between tensors are normal."""


@dataclass(frozen=True, slots=True)
class _Range:
    start: int
    end: int
    name: str


def external_findings(model: Path, found: Walk) -> Iterator[Finding]:
    """Findings about the external references of `found`, the walk of `model`."""
    ranges: dict[Path, list[_Range]] = {}
    told: set[tuple[str, str]] = set()
    for tensor in found.tensors:
        if tensor.location != 1 and not tensor.external:
            continue
        for item in _reference(model, tensor, ranges):
            key = (item.rule, item.location or item.evidence)
            if key not in told:
                told.add(key)
                yield item
    for path, used in ranges.items():
        yield from _layout(path, used)


def leaves_folder(location: str) -> bool:
    """True for an absolute location, a drive, a URL, or one that climbs out with ``..``."""
    windows = PureWindowsPath(location)
    depth = 0
    for part in re.split(r"[/\\]", location):
        depth += -1 if part == ".." else int(part not in ("", "."))
        if depth < 0:
            return True
    absolute = PurePosixPath(location).is_absolute() or windows.is_absolute()
    return absolute or bool(windows.drive) or "://" in location or "\0" in location


def _reference(
    model: Path, tensor: TensorFacts, ranges: dict[Path, list[_Range]]
) -> Iterator[Finding]:
    place = tensor.name or tensor.path
    keys = [key for key, _ in tensor.external]
    entries = dict(tensor.external)
    location = entries.get("location", "")
    strange = sorted(set(keys) - KEYS)
    if strange:
        yield finding(UNKNOWN_KEY, f"{place!r} has the keys {', '.join(strange)}.", location=place)
    if len(keys) != len(set(keys)):
        yield finding(UNKNOWN_KEY, f"{place!r} gives a key more than once.", location=place)
    based = entries.get("basepath", "")
    if leaves_folder(based):
        yield finding(OUTSIDE, f"{place!r} reads below {based!r}.", location=based)
        return
    if leaves_folder(location):
        yield finding(OUTSIDE, f"{place!r} reads {location!r}.", location=location)
        return
    path = model.parent / location
    if not location:
        yield finding(MISSING, f"{place!r} names no file.", location=place)
        return
    linked = _link(model, path)
    if linked is not None:
        yield finding(
            LINKED,
            f"{place!r} reads {location!r}, {linked[0]}.",
            location=location,
            severity=linked[1],
            blocks_run=linked[1] >= Severity.HIGH,
        )
        if linked[1] >= Severity.HIGH:
            return
    if not path.is_file():
        yield finding(MISSING, f"{place!r} needs {location!r}.", location=location)
        return
    yield from _bounds(path, tensor, entries, ranges)


def _link(model: Path, path: Path) -> tuple[str, Severity] | None:
    """What is unusual about `path`, and how bad; None for a plain file."""
    try:
        info = path.lstat()
        target = path.resolve()
    except (OSError, RuntimeError):
        return None
    home = model.parent.resolve()
    if not target.is_relative_to(home):
        # Download caches link the model and its data into one store; then both leave together.
        together = model.is_symlink() and target.parent == model.resolve().parent
        severity = Severity.LOW if together else Severity.CRITICAL
        return f"which leads out of the folder, to {target}", severity
    if stat.S_ISLNK(info.st_mode):
        return f"a symbolic link to {target.name!r}", Severity.MEDIUM
    if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
        return "which is no ordinary file", Severity.HIGH
    if stat.S_ISREG(info.st_mode) and info.st_nlink > 1:
        return f"a file with {info.st_nlink} hard links", Severity.MEDIUM
    return None


def _bounds(
    path: Path, tensor: TensorFacts, entries: dict[str, str], ranges: dict[Path, list[_Range]]
) -> Iterator[Finding]:
    place = tensor.name or tensor.path
    try:
        offset = int(entries.get("offset", "0") or 0)
        length = int(entries["length"]) if entries.get("length") else None
    except ValueError:
        given = f"{entries.get('offset')!r}, {entries.get('length')!r}"
        yield finding(
            RANGE, f"{place!r}: offset and length {given} are no numbers.", location=place
        )
        return
    dtype = type_name(tensor.dtype)
    need = None
    if dtype is not None and all(dim >= 0 for dim in tensor.dims):
        need = expected_bytes(tensor.dims, dtype)
    size = path.stat().st_size
    used = length if length is not None else (need or 0)
    if offset < 0 or used < 0 or offset + used > size:
        yield finding(
            RANGE,
            f"{place!r} takes {used:,} bytes at offset {offset:,} of {path.name!r}, which has "
            f"{size:,}.",
            location=place,
        )
        return
    if length is not None and need is not None and length != need:
        yield finding(
            RANGE, f"{place!r} needs {need:,} bytes but gives length {length:,}.", location=place
        )
    ranges.setdefault(path, []).append(_Range(offset, offset + used, place))


def _layout(path: Path, used: list[_Range]) -> Iterator[Finding]:
    """Overlaps, gaps and the tail of one external file."""
    ordered = sorted({(item.start, item.end): item for item in used}.values(), key=_order)
    end, last = 0, "the start"
    for item in ordered:
        if item.start < end:
            yield finding(
                RANGE,
                f"{item.name!r} and {last!r} overlap in {path.name!r} "
                f"(bytes {item.start:,} to {min(end, item.end):,}).",
                location=item.name,
            )
        elif item.start > end:
            yield from _gap(path, end, item.start, f"before {item.name!r}")
        if item.end > end:
            end, last = item.end, item.name
    size = path.stat().st_size
    if size > end:
        yield from _gap(path, end, size, "at the end")


def _order(item: _Range) -> tuple[int, int]:
    return item.start, item.end


def _gap(path: Path, start: int, end: int, where: str) -> Iterator[Finding]:
    with path.open("rb") as stream:
        stream.seek(start)
        content = stream.read(min(end - start, 1 << 20))
    kind = payload.identify(content) or next(
        (kind for _, kind in payload.search(iter([(0, content)]))), None
    )
    zero = not any(content)
    if kind is None and zero and end - start <= ALIGNMENT:
        return
    yield finding(
        UNEXPLAINED,
        f"{path.name!r} has {end - start:,} bytes {where} that no tensor uses"
        f"{', a ' + kind if kind else (', all zero' if zero else '')}.",
        location=f"{path.name}@{start}",
        severity=Severity.HIGH if kind else (Severity.LOW if zero else None),
    )
