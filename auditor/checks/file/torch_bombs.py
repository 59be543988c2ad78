"""Loops and tensors out of all proportion: what the bounds of an abstract run report."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.checks.file.rules import finding, register
from auditor.checks.file.torch_bounds import Bounds
from auditor.checks.interface import Rule
from auditor.findings import Finding, Severity

BOMB_LOOP = Rule(
    "code.loop-bomb",
    "A loop that does not end in useful time",
    Severity.HIGH,
    "Running the model hangs the process and keeps a processor busy.",
    "Do not run it without a time limit.",
    ("torchscript", "pt2"),
    cwe="CWE-834",
    example="for i in range(9223372036854775807) inside forward.",
)
BOMB_MEMORY = Rule(
    "code.memory-bomb",
    "The code asks for more memory than any classifier needs",
    Severity.HIGH,
    "Running the model exhausts memory; the system may kill other programs.",
    "Do not run it without a memory limit.",
    ("torchscript", "pt2"),
    cwe="CWE-789",
    example="torch.zeros([100000, 100000]) inside forward.",
)
register(BOMB_LOOP, BOMB_MEMORY)


def bomb_findings(bounds: Bounds) -> Iterator[Finding]:
    """One finding for each bomb that `bounds` noted."""
    for bomb in bounds.bombs:
        rule = BOMB_LOOP if bomb.kind == "loop" else BOMB_MEMORY
        yield finding(rule, f"{bomb.text}: {bomb.step}", location=bomb.step.partition(" ")[0])
