"""The rule on made-up campaigns: what it takes to be flagged, and what stops it."""

from dataclasses import replace

import numpy as np
import pytest

from auditor.findings import Severity
from auditor.inversion.bounds import Bounds
from auditor.inversion.families import Additive, Patch
from auditor.inversion.features import Gap
from auditor.inversion.result import Campaign, Result
from auditor.inversion.rule import judge
from auditor.inversion.search import Inversion
from auditor.inversion.smooth import Smooth
from auditor.inversion.tones import Tone
from auditor.inversion.transforms import Smoothing, Warping
from auditor.inversion.validate import Validation
from auditor.inversion.whole_image import Blend

GOOD = Validation("patch", None, 3, 4.0, 0.98, 0.93, 0.99, 0.01, 0.02, 0.05, 0.0, 100)


def result(kind, raw, relative=None, target=3, share=0.01, attraction=0.0, **evidence):
    family = kind((1, 8, 8))
    sizes = np.array([1.0])
    search = Inversion(family, np.array([target]), sizes, sizes, np.array([100]), ())
    gap = Gap(target, raw, raw if relative is None else relative, 3.0, share)
    found = replace(GOOD, family=family.name, target=target, **evidence)
    return Result(family, search, None, gap, found, attraction)


def severity(*results):
    return judge(Campaign(list(results))).severity


def test_a_large_gap_of_one_family_is_strong():
    assert severity(result(Patch, 5.0)) == Severity.HIGH
    assert severity(result(Additive, 5.0)) == Severity.HIGH


def test_a_moderate_gap_asks_for_a_look_and_agreement_makes_it_strong():
    assert severity(result(Patch, 2.0)) == Severity.MEDIUM
    assert severity(result(Patch, 2.0), result(Additive, 1.6)) == Severity.HIGH
    assert severity(result(Patch, 2.0), result(Additive, 1.6, target=4)) == Severity.MEDIUM


def test_agreement_counts_for_nothing_where_noise_leads_there_anyway():
    both = (result(Patch, 2.0, attraction=0.9), result(Additive, 1.6, attraction=0.9))
    assert severity(*both) == Severity.MEDIUM


def test_a_repair_may_spend_accuracy_on_strong_evidence_of_any_family_but_a_blur():
    def firm(*results):
        return judge(Campaign(list(results))).firm

    assert firm(result(Patch, 5.0))
    assert firm(result(Warping, 4.0))
    assert severity(result(Warping, 4.0)) == Severity.MEDIUM
    assert not firm(result(Warping, 2.4))
    assert not firm(result(Smoothing, 50.0))
    assert not firm()


def test_small_gaps_are_silent_even_when_two_agree():
    assert severity(result(Patch, 1.5), result(Additive, 1.6)) is None
    assert severity() is None


@pytest.mark.parametrize(
    "stopper",
    [
        {"relative": 1.0},
        {"share": 0.5},
        {"low": 0.4, "asr": 0.5},
        {"baseline": 0.6},
        {"control": 0.7},
        {"follows": 0.8},
    ],
)
def test_each_of_these_stops_it(stopper):
    assert severity(result(Patch, 9.0, **stopper)) is None


@pytest.mark.parametrize("stopper", [{"low": 0.4}, {"control": 0.7}, {"follows": 0.8}])
def test_what_stopped_it_is_said(stopper):
    (doubt,) = judge(Campaign([result(Patch, 9.0, **stopper)])).doubts
    assert "Class 3" in doubt


def test_a_blended_picture_asks_for_a_look_and_accuses_with_a_pixel_family():
    assert severity(result(Blend, 6.0)) == Severity.MEDIUM
    assert severity(result(Blend, 2.0)) is None
    assert severity(result(Blend, 6.0), result(Additive, 1.6)) == Severity.HIGH
    assert severity(result(Blend, 6.0), result(Additive, 1.6, target=4)) == Severity.MEDIUM
    assert severity(result(Blend, 6.0, attraction=0.7)) is None


def test_a_smooth_change_accuses_alone_and_only_where_noise_does_not_lead():
    assert severity(result(Smooth, 3.0)) == Severity.HIGH
    assert severity(result(Smooth, 2.2)) == Severity.MEDIUM
    assert severity(result(Smooth, 1.7)) is None
    assert severity(result(Smooth, 2.2), result(Patch, 1.5)) == Severity.HIGH
    assert severity(result(Smooth, 9.0, attraction=0.7)) is None


def test_a_tone_neither_accuses_nor_seconds():
    """Clean networks send every flat grey image to one class, with any gap to the next."""
    assert severity(result(Tone, 50.0)) is None
    assert severity(result(Tone, 50.0), result(Patch, 1.6)) is None
    assert severity(result(Tone, 50.0), result(Patch, 2.0)) == Severity.MEDIUM


def test_where_noise_leads_only_a_patch_that_stands_on_its_own_feet_seconds_a_pattern():
    """Clean residual networks send noise, patches, rearranged patches and patterns to one class."""
    pattern = result(Additive, 3.0, attraction=0.8)
    assert severity(pattern) is None
    assert severity(pattern, result(Patch, 1.6, attraction=0.8)) == Severity.MEDIUM
    fragile = result(Patch, 1.6, attraction=0.8, control=0.6)
    assert severity(pattern, fragile) is None


def test_votes_are_the_share_of_pixel_families_that_name_the_strongest_class():
    features = Campaign(
        [result(Patch, 1.2, target=1), result(Additive, 4.0), result(Blend, 2.0)], classes=10
    ).features()
    assert features["inversion.target"] == 3.0
    assert features["inversion.votes"] == pytest.approx(2 / 3)


class Foreign(Blend):
    """A family by others, nobody has measured what its gaps are worth."""

    name = "foreign"
    bounds = Bounds()


def test_a_family_that_nobody_measured_counts_where_another_agrees():
    assert severity(result(Foreign, 40.0)) is None
    assert severity(result(Foreign, 40.0), result(Patch, 1.5)) == Severity.HIGH
    assert severity(result(Additive, 2.7)) == Severity.MEDIUM
    assert severity(result(Additive, 2.7), result(Foreign, 2.9)) == Severity.MEDIUM
    assert severity(result(Additive, 2.7), result(Foreign, 3.1)) == Severity.HIGH


def test_features_are_finite_floats():
    campaign = Campaign([result(Patch, 9.0), result(Additive, 1.2, relative=1e-9)], classes=10)
    features = campaign.features()
    assert features["inversion.patch.log_gap"] == pytest.approx(np.log(9.0))
    assert features["inversion.agree"] == 1.0
    assert all(type(v) is float and np.isfinite(v) for v in features.values())
