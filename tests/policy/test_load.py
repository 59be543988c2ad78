"""Reading a policy: every mistake says its line; the closest file from the folder up wins."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from auditor.policy.load import PolicyError, find_policy, load_policy
from auditor.policy.model import Policy, Threshold

GOOD = """\
fail_on = "medium"
budget = 90
required = ["probe", "accuracy"]
thresholds = [
  "accuracy.clean >= 0.97",
  "robustness.pgd@0.1 >= 0.6",
]
[severities]
"graph.*" = "low"
[[suppress]]
rule = "graph.metadata"
reason = "known"
expires = 2027-01-31
"""


def write(folder: Path, text: str, name: str = "audit.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_good_file(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, GOOD))
    assert policy.fail_on == "medium"
    assert policy.budget == 90
    assert Threshold.parse(policy.thresholds[1]) == Threshold("robustness.pgd@0.1", ">=", 0.6)
    assert policy.suppress[0].expires == datetime.date(2027, 1, 31)


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert load_policy(write(tmp_path, "")) == Policy()


SEVEN = "# 1\n# 2\n# 3\n# 4\n# 5\n# 6\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (SEVEN + 'fail_on = "hgih"', 7, "fail_on"),
        (SEVEN + "fail-on = 'high'", 7, "unknown key fail-on"),
        (SEVEN + 'thresholds = ["accuracy.clean => 1"]', 7, "no threshold"),
        ('thresholds = [\n\n\n"a >= 1",\n\n\n"b >> 1",\n]', 7, "thresholds.1"),
        (SEVEN + "budget = -3", 7, "greater than 0"),
        (SEVEN + 'budget = "60"', 7, "number"),
        (SEVEN + '[severities]\nx = "grave"', 8, "severities.x"),
        (SEVEN + '[[suppress]]\nrule = "x"\nreason = "y"', 7, "expires is missing"),
        (SEVEN + "[[suppress]]\nrule='x'\nreason=''\nexpires=2027-01-01", 9, "reason"),
        (SEVEN + "fail_on = ", 7, "not valid TOML"),
        (SEVEN + "fail_on = 'high\n", 7, "not valid TOML"),
        (SEVEN + "required = ['probe',\n\n", 7, "not valid TOML"),
        (SEVEN + "required = 'probe'", 7, "required"),
    ],
)
def test_a_mistake_names_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(write(tmp_path, text))
    assert caught.value.problems[0].line == line
    assert str(caught.value).startswith(f"audit.toml line {line}: ")
    assert words in str(caught.value)


def test_every_mistake_is_listed_in_order_of_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "budget = 0\nnope = 1\nfail_on = 'x'\n")
    with pytest.raises(PolicyError, match=r"and 2 more") as caught:
        load_policy(path)
    assert [p.line for p in caught.value.problems] == [1, 2, 3]


def test_pyproject_table_with_its_own_lines(tmp_path: Path) -> None:
    text = (
        '[project]\nname = "x"\n\n[tool.audit]\nfail_on = "low"\n[tool.audit.severities]\na = 1\n'
    )
    with pytest.raises(PolicyError, match=r"pyproject\.toml line 7"):
        load_policy(write(tmp_path, text, "pyproject.toml"))


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_unreadable_files_are_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "audit.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert "audit.toml" in str(caught.value)


def test_windows_line_ends_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "audit.toml"
    path.write_bytes(b"# 1\r\n# 2\r\nnope = 1\r\n")
    with pytest.raises(PolicyError, match="line 3"):
        load_policy(path)


def test_the_closest_file_wins_and_a_pyproject_without_table_is_passed_over(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    outer = write(tmp_path, "", "audit.toml")
    write(tmp_path / "a", "[project]\nname='x'\n", "pyproject.toml")
    assert find_policy(inner) == outer
    closer = write(tmp_path / "a", "[tool.audit]\n", "pyproject.toml")
    assert find_policy(inner) == closer
    own = write(tmp_path / "a", "", "audit.toml")
    assert find_policy(inner) == own


def test_flags_beat_the_file_and_none_leaves_it() -> None:
    policy = Policy(fail_on="low", budget=10)
    assert policy.with_flags(fail_on="never").fail_on == "never"
    assert policy.with_flags(fail_on="never").gate is None
    assert policy.with_flags() == policy


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("a.b >= 0.5", 0.5, True),
        ("a.b > 0.5", 0.5, False),
        ("a.b < 1e-3", 0.0005, True),
        ("a.b <= -1", 0, False),
        ("a.b == 3", 3, True),
        ("a.b != 3", 3, False),
    ],
)
def test_threshold_comparisons(text: str, value: float, holds: bool) -> None:
    assert Threshold.parse(text).holds(value) is holds


@pytest.mark.parametrize("text", ["", "a", "a >= ", ">= 1", "a >= b", "a >= 1.2.3", "a => 1"])
def test_no_threshold(text: str) -> None:
    with pytest.raises(ValueError, match="is no threshold"):
        Threshold.parse(text)
