"""The documented policy is the real one: the table is current, the example is valid."""

from __future__ import annotations

import re
from pathlib import Path

from auditor.policy.load import load_policy
from auditor.policy.reference import renewed

PAGE = Path(__file__).parents[2] / "docs" / "policy.md"


def test_the_reference_is_current() -> None:
    text = PAGE.read_text("utf-8")
    assert text == renewed(text), "run: python -m auditor.policy.reference docs/policy.md"


def test_the_example_is_valid(tmp_path: Path) -> None:
    [example] = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    path = tmp_path / "audit.toml"
    path.write_text(example)
    policy = load_policy(path)
    assert len(policy.thresholds) == 3
    assert policy.suppress[0].expires.year == 2027
