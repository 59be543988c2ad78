import numpy as np
import pytest

from auditor.bench import figures as f

TRUTH = np.array([True] * 4 + [False] * 4)


def test_auc_counts_pairs_and_half_ties():
    assert f.auc(np.array([4.0, 3, 2, 1, 0, 0, 0, 0]), TRUTH) == 1.0
    assert f.auc(np.zeros(8), TRUTH) == 0.5
    assert f.auc(np.array([2.0, 2, 0, 0, 1, 1, 1, 1]), TRUTH) == 0.5
    assert f.auc(np.zeros(4), TRUTH[:4]) is None


def test_auc_agrees_with_sklearn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    truth = rng.random(60) < 0.3
    scores = np.round(rng.standard_normal(60) + truth, 1)  # with ties
    assert f.auc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))


def test_cross_entropy_weighs_both_kinds_alike():
    even = np.full(8, 0.5)
    assert f.cross_entropy(even, TRUTH) == pytest.approx(np.log(2))
    truth = np.array([True] * 9 + [False])
    sure = np.where(truth, 0.9, 0.9)  # wrong about the only clean one
    expected = 0.5 * (-np.log(0.9) - np.log(0.1))
    assert f.cross_entropy(sure, truth) == pytest.approx(expected)
    assert f.cross_entropy(sure, np.ones(10, bool)) is None


def test_no_clean_model_may_pass_when_there_are_fewer_than_twenty():
    scores = np.array([5.0, 4, 3, 2, 4.5, 0, 0, 0])
    assert f.tpr_at_fpr(scores, TRUTH) == 0.25


def test_five_per_cent_of_forty_may_pass():
    negative = np.concatenate([[9.0, 8.0], np.zeros(38)])
    scores = np.concatenate([[7.0, 10.0], negative])
    truth = np.array([True, True] + [False] * 40)
    assert f.tpr_at_fpr(scores, truth) == 1.0
    assert f.tpr_at_fpr(scores, truth, 0.025) == 0.5


def test_roc_ends_at_both_corners_and_reliability_counts_everyone():
    scores = np.array([0.9, 0.8, 0.7, 0.2, 0.3, 0.1, 0.1, 0.0])
    false, true = f.roc(scores, TRUTH)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    rows = f.reliability(scores, TRUTH)
    assert sum(r["n"] for r in rows) == 8
    assert rows[0]["observed"] < rows[-1]["observed"]


def test_intervals_hold_the_value_and_shrink():
    rng = np.random.default_rng(1)
    widths = []
    for n in (20, 200):
        truth = np.arange(n) % 2 == 0
        found = f.with_interval(f.auc, rng.standard_normal(n) + truth, truth)
        assert found.low <= found.value <= found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0]
    assert f.rate(0, 0).value is None
    assert f.rate(3, 4).low < 0.75 < f.rate(3, 4).high
