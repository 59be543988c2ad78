"""Zip structure of torch archives: paths that escape, names twice, headers that disagree, bombs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from auditor.artifacts.torch_archive import TorchArchive
from auditor.artifacts.torch_zip import Problem
from auditor.checks.file.rules import finding, register
from auditor.checks.file.torch_common import EITHER, archive_of
from auditor.checks.interface import FileCheck, FileContext, Rule
from auditor.findings import Finding, Outcome, Severity

PATH = Rule(
    "torch.zip.path",
    "A member's name leads out of the archive",
    Severity.HIGH,
    "A program that unpacks the archive writes or reads where the name points, outside its folder.",
    "Do not unpack it. Ask the supplier for a file written by torch itself.",
    EITHER,
    cwe="CWE-22",
    example="A member named ../../home/user/.bashrc, an absolute name, or a symbolic link.",
)
TWICE = Rule(
    "torch.zip.duplicate",
    "Two members share one name",
    Severity.HIGH,
    "One reader takes the first, another the last: what you inspect is not what runs.",
    "Treat the file as forged; torch never writes a name twice.",
    EITHER,
    cwe="CWE-436",
    example="data.pkl twice, one harmless, one that calls os.system.",
)
CONFLICT = Rule(
    "torch.zip.conflict",
    "The archive's two directories disagree",
    Severity.HIGH,
    "Readers that trust different headers see different contents, so an inspection can be fooled.",
    "Treat the file as forged, or as damaged; torch never writes such an archive.",
    EITHER,
    cwe="CWE-436",
    example="A local header that gives a member another name or size than the central directory.",
)
HIDDEN = Rule(
    "torch.zip.hidden",
    "Bytes that belong to no member",
    Severity.MEDIUM,
    "Data before, between or after the members is invisible to torch and may carry a payload.",
    "Find out what the bytes are, or save the model anew.",
    EITHER,
    cwe="CWE-506",
    example="An executable appended after the zip's end record.",
)
BOMB = Rule(
    "torch.zip.bomb",
    "The archive unpacks to far more than its size",
    Severity.HIGH,
    "Reading it exhausts memory or disk.",
    "Do not load it; weights hardly compress, so no real model has such a ratio.",
    EITHER,
    cwe="CWE-409",
    example="A 1 MB member that inflates to 1 GB of zeros.",
)
SEALED = Rule(
    "torch.zip.sealed",
    "A member cannot be inspected",
    Severity.MEDIUM,
    "An encrypted member, or one packed by an unknown method, hides its contents from any audit.",
    "Ask for a file written by torch itself, which neither encrypts nor uses other methods.",
    EITHER,
    cwe="CWE-506",
    example="A member with the encryption flag set.",
)
STRAY = Rule(
    "torch.zip.stray",
    "A member stands outside the archive's folder",
    Severity.LOW,
    "torch does not read it; it should not be there.",
    "Look at it, or save the model anew.",
    EITHER,
    example="A member notes.txt beside the folder model/.",
)
LEGACY = Rule(
    "torch.legacy",
    "An archive layout torch gave up years ago, or a package of Python code",
    Severity.MEDIUM,
    "Its pickles and code run by older, less careful rules; today's readers audit little of it.",
    "Load it in a sandbox with the torch that wrote it and save it anew.",
    EITHER,
    cwe="CWE-1104",
    example="A TorchScript file of torch 1.0 with model.json, or a torch.package archive.",
)
RULES = (LEGACY, PATH, TWICE, CONFLICT, HIDDEN, BOMB, SEALED, STRAY)
register(*RULES)

MAX_RATIO = 200.0
MIN_BOMB = 32 << 20
_HUGE = 1 << 40

_RULE_OF: Mapping[str, tuple[Rule, Severity]] = {
    "traversal": (PATH, Severity.HIGH),
    "absolute": (PATH, Severity.HIGH),
    "symlink": (PATH, Severity.HIGH),
    "duplicate": (TWICE, Severity.HIGH),
    "local": (CONFLICT, Severity.HIGH),
    "structure": (CONFLICT, Severity.HIGH),
    "overlap": (CONFLICT, Severity.HIGH),
    "bounds": (CONFLICT, Severity.HIGH),
    "name": (CONFLICT, Severity.MEDIUM),
    "prepended": (HIDDEN, Severity.MEDIUM),
    "trailing": (HIDDEN, Severity.MEDIUM),
    "gap": (HIDDEN, Severity.MEDIUM),
    "comment": (HIDDEN, Severity.LOW),
    "encrypted": (SEALED, Severity.MEDIUM),
    "method": (SEALED, Severity.MEDIUM),
    "outside": (STRAY, Severity.LOW),
}
_MOST = 20  # findings of one kind; the rest are counted


def structure_findings(archive: TorchArchive) -> Iterator[Finding]:
    """One finding for each structural problem (at most `_MOST` of a kind) and each bomb."""
    kinds: dict[str, list[Problem]] = {}
    for problem in archive.problems:
        kinds.setdefault(problem.kind, []).append(problem)
    for kind, problems in kinds.items():
        rule, severity = _RULE_OF[kind]
        for problem in problems[:_MOST]:
            evidence = f"{problem.where!r}: {problem.text}" if problem.where else problem.text
            if len(problems) > _MOST:
                evidence += f" (one of {len(problems)})"
            yield finding(rule, evidence, location=problem.where or None, severity=severity)
    yield from _bombs(archive)


def _bombs(archive: TorchArchive) -> Iterator[Finding]:
    unpacked = packed = 0
    for member in archive.all_members:
        unpacked += member.size
        packed += member.compressed_size
        if member.size >= MIN_BOMB and member.ratio > MAX_RATIO:
            text = f"{member.name!r} inflates {member.compressed_size} to {member.size} bytes"
            yield finding(BOMB, text, location=member.name)
    if unpacked > _HUGE or (unpacked > MIN_BOMB and unpacked > MAX_RATIO * archive.size):
        yield finding(BOMB, f"{archive.size} bytes unpack to {unpacked} bytes in all")


class TorchZipCheck(FileCheck):
    """The zip structure, read without trusting either directory."""

    name = "file.torch.zip"
    title = "Archive structure"
    doc = (
        "Compares the zip's central directory with its local headers and accounts for every byte "
        "(PKWARE APPNOTE 6.3.10). Wrong when another tool re-packed an honest model oddly."
    )
    default_severity = Severity.HIGH

    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield a finding for each disagreement."""
        archive = archive_of(context)
        yield from structure_findings(archive)
        if archive.kind in ("torchscript-legacy", "package"):
            yield finding(LEGACY, f"the archive is of kind {archive.kind}")


CHECKS = (TorchZipCheck,)
