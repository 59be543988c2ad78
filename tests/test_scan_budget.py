"""Seconds an audit takes when nobody says, and when somebody does."""

from types import SimpleNamespace

import numpy as np
import pytest

from auditor.options import ScanOptions
from auditor.policy.model import Policy
from auditor.samples.interface import Images
from auditor.scanning import BASE_BUDGET, _budget, _planned


def planned(**options):
    return _planned("model.onnx", ScanOptions(**options), lambda what: None)


def seconds(classes):
    labels = np.arange(classes, dtype=np.int64)
    samples = Images(np.zeros((classes, 1, 4, 4), np.float32), labels, "made up")
    return _budget(SimpleNamespace(policy=Policy(), samples=samples))


def test_more_classes_get_more_time_and_a_thousand_not_half_an_hour():
    assert seconds(10) == BASE_BUDGET
    assert seconds(30) == BASE_BUDGET + 40
    assert seconds(1000) == seconds(500) == 150


@pytest.mark.parametrize(("budget", "timeout"), [(60.0, 600.0), (900.0, 1125.0)])
def test_a_long_budget_is_not_ended_by_the_default_time_limit(budget, timeout):
    assert planned(budget=budget).options.timeout == timeout


def test_a_short_time_limit_stays():
    assert planned(timeout=0.05).options.timeout == 0.05
    assert planned(timeout=5.0, budget=3.0).options.timeout == 5.0
