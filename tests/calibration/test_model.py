import dataclasses
import json
from pathlib import Path

import pytest

from auditor.bench.detectors import case_of
from auditor.bench.rows import read
from auditor.bench.write import write_coefficients
from auditor.calibration.features import derived
from auditor.calibration.fit import fit
from auditor.calibration.judge import judge
from auditor.calibration.model import load, packaged
from auditor.errors import UsageError
from auditor.findings import CheckResult
from tests.bench.made_up import row, rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model():
    return fit([case_of(r) for r in rows()], "samples", population="made up", draws=40)


def results(one, status="passed"):
    features = {k: v for k, v in one.features.items() if not k.startswith("data_free")}
    free = {k: v for k, v in one.features.items() if not k.startswith("inversion")}
    return [
        CheckResult("data-free", "passed", "", 0.1, metrics={"features": free}),
        CheckResult("inversion", status, "time", 0.1, metrics={"features": features}),
    ]


def test_clean_low_backdoored_high_and_intervals_around(model):
    for index, bad in ((100, True), (101, False)):
        said = model.estimate(row(index, bad).features, 10_020)
        assert (said.probability > 0.7) == bad
        assert said.low <= said.probability <= said.high
        assert said.probability < 1.0 or said.low > 0.0


def test_inside_says_nothing_outside_says_what(model):
    inside = rows()[4].features
    assert model.estimate(inside, 10_010).outside == ()
    larger = {**inside, "about.side": 224.0, "about.classes": 1000.0}
    reasons = model.estimate(larger, 11_000_000).outside
    assert reasons[0] == "1,000 classes, the population 10"
    assert reasons[1] == "224 pixels a side, the population 28"
    assert reasons[2].startswith("11,000,000 parameters, the population 10,000 to")


def test_values_beyond_the_population_are_cut_and_told(model):
    strange = {**rows()[4].features, "inversion.additive.half": 3.0}
    stranger = {**strange, "inversion.additive.half": 300.0}
    one, two = model.estimate(strange), model.estimate(stranger)
    assert one.probability == two.probability
    assert "inversion.additive.half beyond any model" in one.outside[0]


def test_missing_features_are_told_and_too_many_refused(model):
    known = dict(rows()[4].features)
    del known["transforms.lead"]
    assert "no value for transforms.lead" in model.estimate(known).outside[0]
    assert model.covers(known)
    assert not model.covers({"data_free.margin.z": 1.0})


def test_written_and_read_again(model, tmp_path):
    path = tmp_path / "c.json"
    write_coefficients({"samples": model}, path)
    assert load(path) == {"samples": model}


@pytest.mark.parametrize("spoil", ["format", "means", "draws", "scales", "ranges"])
def test_spoilt_files_are_one_sentence(model, tmp_path, spoil):
    path = tmp_path / "c.json"
    write_coefficients({"samples": model}, path)
    content = json.loads(path.read_text())
    if spoil == "format":
        content["format"] = 99
    elif spoil == "means":
        content["models"]["samples"]["means"][0] = "many"
    elif spoil == "scales":
        content["models"]["samples"]["scales"][0] = 0.0
    else:
        content["models"]["samples"][spoil] = []
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"c\.json is not a calibration"):
        load(path)


def test_the_report_gets_number_interval_and_provenance(model):
    said = judge(results(rows()[4]), 10_010, {"samples": model})
    assert said.probability is not None
    assert said.interval[0] <= said.probability <= said.interval[1]
    assert "a small population: 48 models, 24 clean and 24 backdoored (made up)" in said.words
    assert said.metrics()["backdoor.probability"] == said.probability


def test_no_number_without_calibration_with_an_unfinished_search_or_without_evidence(model):
    given = results(rows()[4])
    assert "no calibration for audits with samples" in judge(given, None, {}).words
    cut = judge(results(rows()[4], "incomplete"), None, {"samples": model})
    assert cut.probability is None
    assert cut.words == "no probability: time"
    assert judge([], None, {"samples": model}).words == ""
    assert judge(given, None, {}).metrics() == {}


def test_the_class_is_named_where_a_backdoor_is_likely(model):
    for index, bad in ((4, True), (101, False)):
        said = judge(results(row(index, bad)), 10_010, {"samples": model})
        assert said.words.startswith("the evidence points at class 3; ") == bad


def test_an_unfinished_consensus_is_no_measurement(model):
    cut = CheckResult("consensus", "incomplete", "the time budget ended", 0.1)
    said = judge([*results(rows()[4]), cut], None, {"samples": model})
    assert (said.probability, said.words) == (None, "no probability: the time budget ended")


def test_hostile_numbers_are_left_out(model):
    good, bad = results(rows()[4])
    bad = dataclasses.replace(bad, metrics={"features": {"inversion.agree": float("nan"),
                                                         "x": "y", "z": True}})  # fmt: skip
    assert judge([good, bad], None, {"samples": model}).probability is None
    spoilt = dataclasses.replace(bad, metrics={"features": [1, 2]})
    assert judge([good, spoilt], None, {"samples": model}).probability is None


def test_derived_features_take_the_smaller_gap():
    known = derived({"inversion.patch.log_gap": 2.0, "inversion.patch.log_relative_gap": -0.5,
                     "data_free.margin.p": 0.0, "data_free.margin.z": 1e9})  # fmt: skip
    assert known["inversion.patch.log_honest"] == -0.5
    assert known["data_free.margin.surprise"] == 12.0
    assert known["data_free.margin.z"] == 20.0


def test_a_family_that_reached_no_class_has_no_merit_and_one_that_did_not_search_is_unknown():
    prefix = "inversion.smooth."
    assert derived({prefix + "reached": 0.0})[prefix + "merit"] == 0.0
    assert prefix + "merit" not in derived({})
    found = {prefix + "reached": 1.0, prefix + "asr": 0.9, prefix + "control": 0.1}
    assert derived(found | {prefix + "follows": 0.3})[prefix + "merit"] == pytest.approx(0.6)


def test_the_calibration_population_lies_inside_its_calibration():
    published = read(ROOT / "benchmarks" / "rows" / "calibration.csv")
    shipped = packaged()["samples"]
    outside = [shipped.estimate(r.features, r.truth.parameters).outside for r in published]
    assert len(outside) == shipped.provenance.models
    assert not any(outside)


def test_packaged_coefficients_are_readable_and_say_where_they_come_from():
    for model in packaged().values():
        p = model.provenance
        assert p.models == p.clean + p.backdoored
        assert p.held_out["auc"] > 0.8
        assert len(model.draws) >= 100
