import numpy as np
import pytest

from auditor.bench.detectors import case_of
from auditor.calibration.fit import _logistic, fit, folds_of, groups
from auditor.errors import UsageError
from tests.bench.made_up import rows


@pytest.mark.parametrize("penalty", [0.01, 0.3, 3.0])
def test_the_solver_agrees_with_sklearn(penalty):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 5))
    truth = (x[:, 0] + 0.5 * rng.standard_normal(60)) > 0.8
    intercept, weights = _logistic(x, truth, penalty)
    model = LogisticRegression(C=penalty, class_weight="balanced", tol=1e-9, max_iter=5000)
    model.fit(x, truth)
    assert weights == pytest.approx(model.coef_[0], abs=1e-3)
    assert intercept == pytest.approx(model.intercept_[0], abs=1e-3)


def test_an_attack_and_its_models_leave_together():
    cases = [case_of(row) for row in rows()]
    masks = folds_of(groups(cases, 0), 0)
    assert sum(mask.sum() for mask in masks) == len(cases)
    for mask in masks:
        inside = {c.group for c, m in zip(cases, mask, strict=True) if m and c.backdoored}
        outside = {c.group for c, m in zip(cases, mask, strict=True) if not m and c.backdoored}
        assert not inside & outside


def test_same_seed_same_coefficients_and_order_of_kinds():
    cases = [case_of(row) for row in rows()]
    one, two = (fit(cases, "samples", population="p", seed=3, draws=5) for _ in range(2))
    assert one == two
    assert one.coefficients[one.names.index("consensus.log_score")] > 0


def test_too_few_of_a_kind_and_missing_features():
    cases = [case_of(row) for row in rows()]
    clean = [c for c in cases if not c.backdoored]
    with pytest.raises(UsageError, match="here are 24 and 0"):
        fit(clean, "samples", population="p")
    import dataclasses

    bare = [dataclasses.replace(c, features={"about.side": 8.0}) for c in cases]
    with pytest.raises(UsageError, match="were the checks run"):
        fit(bare, "samples", population="p")
