"""Each method of the training-set audit: a positive, a near miss, and a broken input."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.poison.duplicates import Duplicates
from auditor.poison.engine import Examination, class_rows, examine, methods
from auditor.poison.interface import (
    Method,
    Result,
    Study,
)
from tests.poison.sets import CLASSES, clean, poisoned, shapes, study


@pytest.fixture(scope="module")
def found() -> tuple[Study, np.ndarray, Examination]:
    bad_set, bad = poisoned()
    return bad_set, bad, examine(bad_set)


@pytest.fixture(scope="module")
def unsuspected() -> tuple[Study, Examination]:
    good = clean()
    return good, examine(good)


def test_every_poisoned_sample_is_flagged_and_few_others(
    found: tuple[Study, np.ndarray, Examination],
) -> None:
    _, bad, examination = found
    assert examination.flagged[bad].mean() >= 0.95
    assert examination.flagged[~bad].mean() <= 0.01
    assert [f.target_class for f in examination.findings if f.rule == "data.poisoned-cluster"] == [
        2
    ]
    assert examination.verdicts[2] == "poisoned"
    assert {word for k, word in examination.verdicts.items() if k != 2} == {"clean"}


def test_poison_leads_the_ranking_and_has_its_true_class_suggested(
    found: tuple[Study, np.ndarray, Examination],
) -> None:
    bad_set, bad, examination = found
    first = np.argsort(-examination.score)[: int(bad.sum())]
    assert bad[first].mean() >= 0.95
    true = shapes(len(bad))[1]
    suggested = examination.suggested[bad]
    assert (suggested == true[bad]).mean() >= 0.9
    assert all("trigger" in examination.reasons[int(i)] for i in first[:5])
    rows = class_rows(bad_set, examination)
    assert [row["class"] for row in rows] == list(range(CLASSES))


def test_the_recovered_trigger_is_the_white_corner(
    found: tuple[Study, np.ndarray, Examination],
) -> None:
    bad_set, _, _ = found
    trigger = bad_set.confirmed[2].trigger
    assert trigger is not None
    assert trigger.picture()[0, -2:, -2:].min() > 0.9
    assert trigger.touched.mean() < 0.3


def test_a_clean_set_comes_out_clean(unsuspected: tuple[Study, Examination]) -> None:
    good, examination = unsuspected
    assert examination.flagged.mean() <= 0.01
    assert good.confirmed == {}
    assert not [f for f in examination.findings if f.severity >= 2]
    assert set(examination.verdicts.values()) == {"clean"}


def test_equal_sets_give_equal_results(found: tuple[Study, np.ndarray, Examination]) -> None:
    _, _, first = found
    second = examine(poisoned()[0])
    np.testing.assert_array_equal(first.flagged, second.flagged)
    np.testing.assert_allclose(first.score, second.score, atol=1e-5)


@pytest.mark.parametrize("method", [m for m in methods()[0]], ids=lambda m: m.name)
def test_methods_are_documented_and_refuse_three_samples_with_a_reason(
    method: type[Method],
) -> None:
    assert len(method.doc) > 80
    assert method.title
    few = study(*shapes(3))
    check = examine(few, [method]).checks[0]
    assert check.status in ("skipped", "passed")
    assert check.status == "passed" or len(check.reason) > 10
    assert method.name == "duplicates" or check.status == "skipped"


@pytest.mark.parametrize("method", [m for m in methods()[0]], ids=lambda m: m.name)
def test_a_single_class_is_no_crash_and_no_accusation(method: type[Method]) -> None:
    images, _ = shapes(80)
    one = study(images, np.zeros(80, np.int64))
    check = examine(one, [method]).checks[0]
    assert check.status in ("skipped", "passed")


def test_a_method_that_breaks_is_incomplete_and_hides_nobody() -> None:
    class Broken(Method):
        name, title, doc = "broken", "Broken", "Raises."

        def run(self, study: Study) -> Result:
            raise RuntimeError("no luck")

    class Short(Method):
        name, title, doc = "short", "Short", "Returns too little."

        def run(self, study: Study) -> Result:
            return Result(np.zeros(1, np.float32), np.zeros(1, bool), "x")

    checks = examine(clean(100), [Broken, Short, Duplicates]).checks
    assert [c.status for c in checks] == ["incomplete", "incomplete", "passed"]
    assert "no luck" in checks[0].reason


def test_no_time_left_is_said() -> None:
    late = clean(100)
    late.spent = lambda: True
    assert {c.status for c in examine(late).checks} == {"incomplete"}
