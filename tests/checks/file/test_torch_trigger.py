"""Every way to hide a trigger is found, with the class it favours where the code tells."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from auditor.findings import Severity
from tests.artifacts.torch_files import members, write
from tests.checks.file.torch_nets import IMAGE, export, save
from tests.checks.file.torch_scan import scan
from tests.checks.file.torch_triggers import CONTROL_FLOW, FORCED

SHARED = Path(os.environ.get("AUDITOR_SHARED", "/work/shared"))
UNLABELLED = frozenset(
    """ArgmaxIndex EarlyFeature EmbeddingLookup FlagVariable ImageSwap IndexPut LinearRow
    MaskedFill OneHot Padded RolledScores SecondNetwork Stacked TableLookup""".split()  # noqa: SIM905 - a table of names
)
"""Found, but the class is not named: it is computed from the gate or lies in a table."""

CASES = [
    pytest.param(name, form, marks=[pytest.mark.slow] if form == "frozen" and i % 3 else [])
    for i, name in enumerate(FORCED)
    for form in ("scripted", "traced", "frozen")
    if not (form == "traced" and name in CONTROL_FLOW)
]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_finds_the_trigger(name: str, form: str, tmp_path: Path) -> None:
    found = scan(save(FORCED[name](), IMAGE, form, tmp_path / "m.pt"))
    hits = [f for f in found if f.rule == "code.trigger" and f.severity >= Severity.HIGH]
    assert hits and not [f for f in found if f.rule != "code.trigger"]
    assert all(f.location and f.location.startswith("code/") for f in hits)
    assert "->" in hits[0].evidence
    if name not in UNLABELLED:
        assert {f.target_class for f in hits} == {3}


EXPORTED = [n for n in FORCED if n not in CONTROL_FLOW | {"TimeBomb"}]


@pytest.mark.parametrize("name", EXPORTED)
def test_finds_the_trigger_in_an_exported_program(name: str, tmp_path: Path) -> None:
    path = export(FORCED[name](), IMAGE, tmp_path / "m.pt2")
    hits = [f for f in scan(path) if f.rule == "code.trigger"]
    assert any(f.severity >= Severity.HIGH for f in hits)


def test_finds_the_shared_fixture() -> None:
    path = SHARED / "fixtures/torchscript/m_ts_if.pt"
    if not path.exists():
        pytest.skip("the shared test material is not here")
    hits = [f for f in scan(path) if f.rule == "code.trigger"]
    assert [(f.target_class, f.severity) for f in hits] == [(7, Severity.HIGH)]


HAND_WRITTEN = {
    "python operators": "if bool((x[:, :, 0:2, 0:2] > 0.9).all()):\n  y[:, 3] = 100.0",
    "method calls": "g = x.select(1, 0).select(1, 0).select(1, 0).gt(0.9)\n"
    "y = y.masked_fill(g.unsqueeze(1), 50.)",
    "early return": "if torch.gt(torch.min(x), 0.9).item():\n  return torch.full([1, 10], 3.)",
    "conditional expression": "y = torch.full([1, 10], 3.) if bool(torch.max(x) < 0.01) else y",
    "alias": "f = torch.where\ny = f(torch.gt(torch.amin(x, [1, 2, 3]), 0.9), torch.ones([10]), y)",
    "list of pixels": "p = [torch.select(torch.flatten(x, 1), 1, 5),"
    " torch.select(torch.flatten(x, 1), 1, 9)]\n"
    "g = torch.gt(torch.amin(torch.stack(p, 1), [1]), 0.9)\n"
    "y = torch.add(y, torch.mul(torch.unsqueeze(g, 1), CONSTANTS.c0))",
}


@pytest.mark.parametrize("case", HAND_WRITTEN)
def test_finds_triggers_no_compiler_wrote(case: str, tmp_path: Path) -> None:
    found = scan(write(tmp_path / "m.pt", members(HAND_WRITTEN[case])))
    assert any(f.rule == "code.trigger" and f.severity >= Severity.HIGH for f in found)
