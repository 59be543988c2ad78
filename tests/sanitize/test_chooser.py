"""The chooser: the limit is hard, time is shared, and it knows only what a user knows."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from auditor.checks.interface import Budget
from auditor.sanitize.chooser import choose
from auditor.sanitize.interface import Repair, RepairContext, Sanitizer
from tests.sanitize.test_methods import context


class Nothing(Sanitizer):
    """Finds nothing to change."""

    name: ClassVar[str] = "nothing"
    title: ClassVar[str] = "Nothing"
    doc: ClassVar[str] = "None."

    def repair(self, context: RepairContext) -> Repair | None:
        return None


class Ruin(Nothing):
    """Sets the head to zero: no backdoor and no accuracy."""

    name: ClassVar[str] = "ruin"

    def repair(self, context: RepairContext) -> Repair | None:
        return Repair(self.name, {"head.weight": np.zeros((10, 32), np.float32)})


class Same(Nothing):
    """Changes nothing, at no cost, without samples."""

    name: ClassVar[str] = "same"
    needs_samples: ClassVar[bool] = False

    def repair(self, context: RepairContext) -> Repair | None:
        assert context.classifier.twin is not None
        bias = context.classifier.twin.parameters["head.bias"].numpy().copy()
        return Repair(self.name, {"head.bias": bias})


def test_a_repair_that_costs_too_much_is_never_chosen() -> None:
    choice = choose(context(True), [Ruin()])
    assert choice.repair is None
    assert "--max-accuracy-drop" in choice.reason
    assert choice.rows[0]["outcome"] == "costs more accuracy than allowed"


def test_the_limit_can_be_raised() -> None:
    wide = dataclasses.replace(context(True), max_accuracy_drop=10.0)
    choice = choose(wide, [Ruin()])
    assert choice.repair is not None


def test_among_acceptable_repairs_the_one_that_removes_the_trigger_wins() -> None:
    from auditor.sanitize.unlearning import Unlearning

    choice = choose(context(True), [Same(), Unlearning(), Ruin(), Nothing()])
    assert choice.repair is not None
    assert choice.repair.method == "unlearning"
    assert choice.rows[0]["method"] == "unlearning"


def test_without_samples_only_methods_that_need_none_are_asked() -> None:
    given = context(True)
    empty = given.held_out.take(slice(0, 0))
    bare = dataclasses.replace(given, train=empty, held_out=empty, triggers=[])
    choice = choose(bare, [Same(), Ruin()])
    assert choice.repair is not None
    assert choice.repair.method == "same"
    assert [row["method"] for row in choice.rows] == ["same"]
    assert choose(bare, [Ruin()]).reason == "no method works without samples"


def test_a_repair_that_leaves_the_recovered_trigger_working_is_none() -> None:
    choice = choose(context(True), [Same()])
    assert choice.repair is None
    assert choice.rows[0]["outcome"] == "leaves a recovered trigger working"
    assert "recovered trigger" in choice.reason


def test_no_time_left_is_said() -> None:
    choice = choose(context(True, seconds=0.0), [Same(), Ruin()])
    assert choice.repair is None
    assert all("no time" in str(row["outcome"]) for row in choice.rows)


def test_the_reserve_is_spent_only_where_no_copy_works() -> None:
    from auditor.sanitize.unlearning import Unlearning

    hasty = dataclasses.replace(context(True), budget=Budget(0.2))
    assert choose(hasty, [Unlearning()]).repair is None
    patient = dataclasses.replace(hasty, budget=Budget(0.2), reserve=60.0, memory={})
    choice = choose(patient, [Same(), Unlearning()])
    assert choice.repair is not None
    assert choice.repair.method == "unlearning"
    asked = [row["method"] for row in choice.rows]
    assert asked in (["same", "unlearning", "unlearning"], ["unlearning", "same", "unlearning"])
    enough = dataclasses.replace(context(True), reserve=60.0)
    assert [row["method"] for row in choose(enough, [Unlearning()]).rows] == ["unlearning"]


def test_the_reserve_is_not_spent_where_the_audit_is_not_sure() -> None:
    """A clean network that one family of trigger accuses is not worth minutes of training."""

    class Goes(Nothing):
        name: ClassVar[str] = "goes"
        resumes: ClassVar[bool] = True

    doubtful = dataclasses.replace(context(True), sure=False, reserve=60.0)
    assert [row["method"] for row in choose(doubtful, [Goes()]).rows] == ["goes"]
    certain = dataclasses.replace(doubtful, sure=True)
    assert [row["method"] for row in choose(certain, [Goes()]).rows] == ["goes", "goes"]


def test_nothing_to_change_is_said() -> None:
    assert choose(context(True), [Nothing()]).reason == "no method found anything it can change"
