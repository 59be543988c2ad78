"""What the bytes of an ONNX file say that its parser does not tell."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from auditor.checks.file import payload
from auditor.checks.file.onnx_external import external_findings
from auditor.checks.file.onnx_graph import require_onnx
from auditor.checks.file.onnx_tensor_facts import tensor_findings
from auditor.checks.file.onnx_wire import Buffer, Walk, walk_file
from auditor.checks.file.rules import finding, register
from auditor.checks.interface import FileCheck, FileContext, Rule
from auditor.findings import Finding, Notice, Outcome, Severity

APPENDED = Rule(
    id="bytes.appended",
    title="Foreign bytes after the end of the model",
    severity=Severity.HIGH,
    why="The file is two files at once: what a model reader ignores or refuses, an unpacker or "
    "loader elsewhere may run.",
    remedy="Do not use the file; ask for a clean export.",
    formats=("onnx",),
    cwe="CWE-506",
    example="A zip archive concatenated to model.onnx: reported with its offset and kind.",
)
UNKNOWN_FIELD = Rule(
    id="bytes.unknown-field",
    title="Fields that no ONNX version defines",
    severity=Severity.MEDIUM,
    why="Readers skip unknown fields silently, so data can travel in them unseen, and a modified "
    "reader may act on them.",
    remedy="Re-save the model with the onnx package, which drops them, and compare.",
    formats=("onnx",),
    cwe="CWE-912",
    example="Field 9999 with 4 kB of bytes in the graph message.",
)
REPEATED_FIELD = Rule(
    id="bytes.repeated-field",
    title="A single field is stored twice",
    severity=Severity.HIGH,
    why="One reader keeps the last value, another the first or a merge: they see two models.",
    remedy="Do not use the file; ask for a clean export.",
    formats=("onnx",),
    cwe="CWE-436",
    example="Two `graph` fields in one model, or two `raw_data` in one tensor.",
)
PAYLOAD = Rule(
    id="bytes.payload",
    title="A program or archive inside the model's data",
    severity=Severity.HIGH,
    why="Executables, archives, pickles and scripts have no place in weights or metadata; the "
    "model may be a carrier for them.",
    remedy="Do not use the file; have the payload analysed.",
    formats=("onnx",),
    cwe="CWE-506",
    example="An initializer of type uint8 that starts with the bytes of an ELF executable.",
)
CODE_TEXT = Rule(
    id="bytes.code-in-text",
    title="Commands or code in a text of the model",
    severity=Severity.MEDIUM,
    why="Metadata, documentation and attributes are text for people; code in them waits for a "
    "program that evaluates it.",
    remedy="Look at the text; do not feed it to anything that evaluates it.",
    formats=("onnx",),
    cwe="CWE-94",
    example="metadata_props value `__import__('os').system('...')`.",
)
register(APPENDED, UNKNOWN_FIELD, REPEATED_FIELD, PAYLOAD, CODE_TEXT)

MAX_EACH = 10
"""Findings of one rule; the rest are counted in the last one."""

LARGE = 1 << 22
"""Bytes above which a tensor is searched for the commonest payloads only."""

MAY_REPEAT = frozenset({"producer_name", "producer_version", "doc_string"})


class BytesCheck(FileCheck):
    """Structure, payloads and external data, from the bytes alone."""

    name = "file.bytes"
    title = "Bytes and external data"
    doc = (
        "Walks the protobuf without the parser and looks for what readers skip or see differently: "
        "unknown and repeated fields, appended data, disagreeing or impossible tensors, payloads, "
        "external data outside the folder. Wrong when a newer ONNX version defined a field."
    )
    default_severity = Severity.HIGH

    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield findings about the bytes."""
        path = require_onnx(context)
        found, data = walk_file(path)
        if found.broken is not None and found.broken.cut and not found.graph_seen:
            yield Notice(f"The file is cut off at byte {found.broken.offset:,}: it is truncated.")
        yield from _limited(_structure(found, data))
        yield from _limited(_payloads(found, data))
        yield from _limited(_texts(found, data))
        yield from _limited(tensor_findings(found, data))
        yield from _limited(external_findings(path, found))
        if isinstance(data, mmap.mmap):
            data.close()


def _limited(findings: Iterator[Finding]) -> Iterator[Outcome]:
    counts: dict[str, int] = {}
    for item in findings:
        counts[item.rule] = counts.get(item.rule, 0) + 1
        if counts[item.rule] <= MAX_EACH:
            yield item
    for rule, count in counts.items():
        if count > MAX_EACH:
            yield Notice(f"{rule}: {count - MAX_EACH} more places are not listed.")


def _structure(found: Walk, data: Buffer) -> Iterator[Finding]:
    """Appended data, unknown fields and single fields given twice."""
    tail = [entry for entry in found.unknown if entry[0] == "model" and entry[2] >= found.end]
    if found.graph_seen and (found.broken is not None or tail) and found.end < found.size:
        cut = found.broken is not None and found.broken.cut and found.broken.offset == found.end
        kind = payload.identify(bytes(data[found.end : found.end + 8192]))
        kind = kind or next(
            (k for _, k in payload.search(chunks(data, found.end, found.size))), None
        )
        if kind is not None or (found.broken is not None and not cut):
            yield finding(
                APPENDED,
                f"The model ends at byte {found.end:,}; {found.size - found.end:,} more bytes "
                f"follow{', a ' + kind if kind else ''}.",
                location=f"byte {found.end}",
            )
            tail_start = found.end
        else:
            tail_start = found.size
    else:
        tail_start = found.size
    for path, number, offset, length in found.unknown:
        if offset >= tail_start:
            continue
        inside = payload.identify(bytes(data[offset : offset + 8192])) or next(
            (kind for _, kind in payload.search(chunks(data, offset, offset + length))), None
        )
        small = length < 64 and number < 64 and inside is None
        yield finding(
            UNKNOWN_FIELD,
            f"{path} holds field {number} ({length:,} bytes at byte {offset:,}), which ONNX does "
            f"not define{'; it contains a ' + inside if inside else ''}.",
            location=f"{path}#{number}",
            severity=Severity.HIGH if inside else (Severity.LOW if small else None),
        )
    for path, name in found.repeated:
        if name not in MAY_REPEAT:
            yield finding(REPEATED_FIELD, f"{path} stores `{name}` more than once.", location=path)


def chunks(data: Buffer, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Pieces of `data` that overlap enough for a header; pages are given back after use."""
    at = start
    while at < end:
        yield at, bytes(data[at : min(end, at + payload.CHUNK + 4096)])
        if isinstance(data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            page = at - at % mmap.PAGESIZE
            data.madvise(mmap.MADV_DONTNEED, page, min(payload.CHUNK, len(data) - page))
        at += payload.CHUNK


def _payloads(found: Walk, data: Buffer) -> Iterator[Finding]:
    """Programs and archives in stored tensors."""
    budget = payload.MAX_SCAN
    for tensor in found.tensors:
        for name, spans in tensor.spans.items():
            for offset, length in spans:
                if budget <= 0:
                    return
                budget -= length
                pieces = chunks(data, offset, offset + length)
                weights = length > LARGE and name in ("raw_data", "float_data", "double_data")
                for at, kind in payload.search(pieces, quick=weights):
                    yield finding(
                        PAYLOAD,
                        f"{tensor.path} {tensor.name!r} ({name}) contains a {kind} "
                        f"{at - offset:,} bytes in.",
                        location=tensor.name or tensor.path,
                    )
                    break
                if name == "string_data" or tensor.dtype in (2, 3):
                    code = payload.code_in_text(bytes(data[offset : offset + min(length, 1 << 20)]))
                    if code is not None:
                        yield finding(
                            CODE_TEXT,
                            f"{tensor.path} {tensor.name!r} contains {code!r}.",
                            location=tensor.name or tensor.path,
                        )


def _texts(found: Walk, data: Buffer) -> Iterator[Finding]:
    """Payloads and code in metadata, documentation and string attributes."""
    for path, offset, length in found.texts:
        content = bytes(data[offset : offset + min(length, 1 << 20)])
        kind = next((kind for _, kind in payload.search(iter([(0, content)]))), None)
        if kind is not None and kind != "script":
            yield finding(PAYLOAD, f"{path} contains a {kind}.", location=path)
            continue
        code = "a script" if kind == "script" else payload.code_in_text(content)
        if code is not None:
            yield finding(CODE_TEXT, f"{path} contains {code!r}.", location=path)


CHECKS = (BytesCheck,)
