"""Line numbers of keys and array elements in TOML, checked on documents of our own."""

from __future__ import annotations

import string
import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from auditor.policy.locate import line_numbers, line_of

DOCUMENT = '''\
# a comment with = and [brackets]
a = 1
"quoted.key" = 'it''s'
text = """
not = "a key"
""""
list = [ # first
  1,
  "two ] # not the end",

  [3, 4],
]
inline = { x = 1, y = { z = 2 } }
when = 2027-01-01 07:32:00
[t.u]
b.c = 2
[[many]]
k = 1
[[many]]
k = 2
  [many.sub]
  j = 3
'''.replace("'it''s'", "'its'")


def test_every_kind_of_line() -> None:
    lines = line_numbers(DOCUMENT)
    expected = {
        ("a",): 2,
        ("quoted.key",): 3,
        ("text",): 4,
        ("list",): 7,
        ("list", 0): 8,
        ("list", 1): 9,
        ("list", 2): 11,
        ("list", 2, 1): 11,
        ("inline", "y", "z"): 13,
        ("when",): 14,
        ("t", "u"): 15,
        ("t", "u", "b", "c"): 16,
        ("many", 0, "k"): 18,
        ("many", 1): 19,
        ("many", 1, "k"): 20,
        ("many", 1, "sub", "j"): 22,
    }
    tomllib.loads(DOCUMENT)
    assert {path: lines.get(path) for path in expected} == expected


def test_unknown_path_falls_back_to_what_is_around_it() -> None:
    lines = line_numbers(DOCUMENT)
    assert line_of(lines, ("many", 1, "missing")) == 19
    assert line_of(lines, ("nowhere",)) == 1


def paths(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """Every path inside a parsed document."""
    found = {path} if path else set()
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, child in children:
        found |= paths(child, (*path, key))
    return found


KEYS = st.text(string.ascii_letters, min_size=1, max_size=4)
VALUES = st.recursive(
    st.sampled_from(['"a#]"', "'b}'", "1", "true", '"""x\n\'"""', "2027-01-01", "-1.5e3"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda v: "[\n" + ",#]\n".join(v) + "]")
        | st.dictionaries(KEYS, inner, max_size=3).map(
            lambda d: "{" + ", ".join(f"{k}={v}" for k, v in d.items()) + "}"
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_every_parsed_path_has_a_line(pairs: dict[str, str]) -> None:
    text = "".join(f"{key} = {value} # end\n" for key, value in pairs.items())
    document = tomllib.loads(text)
    lines = line_numbers(text)
    assert paths(document) <= set(lines)
    for key in document:
        assert text.splitlines()[lines[(key,)] - 1].startswith(key)
