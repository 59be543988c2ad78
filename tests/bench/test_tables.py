import dataclasses

import pytest

from auditor.bench.detectors import case_of, cross_validated, kind_of, leave_out
from auditor.bench.fitting import calibrate
from auditor.bench.page import render
from auditor.bench.plots import draw
from auditor.bench.split import halves
from auditor.bench.tables import results
from auditor.calibration.fit import fit
from auditor.errors import UsageError
from tests.bench.made_up import row, rows


@pytest.fixture(scope="module")
def found():
    return results(rows())


def test_tables_tell_detectors_apart(found):
    titles = [table.title for table in found.tables]
    assert titles[0].startswith("All models")
    for word in ("attack", "dataset", "architecture"):
        assert any(title.startswith(f"Leave one {word} out") for title in titles)
    names = [line[0] for line in found.tables[0].rows]
    assert names == ["audit (rule)", "audit (probability)", "mm-bd"]
    alarms = dict((line[0], line[1:]) for line in found.tables[1].rows)
    assert alarms["audit (rule)"][0].startswith("0/12")
    assert alarms["audit (rule)"][1].startswith("0/12")
    assert alarms["audit (rule)"][2].startswith("24/24")


def test_without_signal_the_probability_is_no_better_than_chance():
    shown = results(rows(shift=0.0))
    area = float(shown.tables[0].rows[1][2].split()[0])
    assert area < 0.8


def test_an_attack_nobody_sees_is_named_as_weak():
    given = [
        row(i, True, 0.0, severity="") if one.truth.family == "warp" else one
        for i, one in enumerate(rows())
    ]
    notes = [n for t in results(given).tables if t.title.startswith("Per attack") for n in t.notes]
    assert notes == ["Weak: all-to-one warp."]


def test_rules_of_labelling_are_shown_apart_each_against_all_clean_models():
    shown = next(t for t in results(rows()).tables if t.title.startswith("Per label rule"))
    assert [line[0] for line in shown.rows] == ["all-to-one"]
    assert shown.rows[0][1] == "24"
    assert shown.rows[0][2] != "-"


def test_a_model_is_never_judged_by_a_fit_that_saw_its_attack(monkeypatch):
    from auditor.bench import detectors

    seen = []

    def spy(cases, *args, **more):
        seen.append({c.group for c in cases if c.backdoored})
        return fit(cases, *args, **more)

    monkeypatch.setattr(detectors, "fit", spy)
    cross_validated(rows(), "samples")
    every = {"all-to-one square", "all-to-one blended", "all-to-one warp", "all-to-one noise"}
    assert set().union(*(every - inside for inside in seen)) == every
    seen.clear()
    left = leave_out(rows(), "samples", "attack")
    assert set(left) == every
    assert all(len(inside) == 3 for inside in seen)


def test_few_models_give_figures_but_no_probability():
    shown = results(rows(12))
    assert [line[0] for line in shown.tables[0].rows] == ["audit (rule)", "mm-bd"]
    assert "at least 12 clean and 12 backdoored" in shown.notices[0]


def test_incomplete_rows_are_told_and_not_counted():
    cut = row(90, False, status={"inversion": "incomplete"})
    shown = results([*rows(), cut])
    assert "m90.onnx (inversion incomplete)" in shown.notices[0]
    assert shown.tables[0].rows[0][1] == "24 of 48"
    with pytest.raises(UsageError, match="no model could be scanned"):
        results([cut])


def test_attacks_that_missed_their_acceptance_are_told_and_not_counted():
    weak = row(90, True)
    weak = dataclasses.replace(weak, truth=dataclasses.replace(weak.truth, accepted=False))
    shown = results([*rows(), weak])
    assert "m90.onnx (missed the zoo's acceptance)" in shown.notices[0]
    assert shown.tables[0].rows[0][1] == "24 of 48"


def test_mixtures_are_refused():
    with pytest.raises(UsageError, match="mix audits with and without"):
        kind_of([row(0, True), row(1, False, samples=0)])


def test_both_files_of_a_network_stay_in_one_half():
    given = rows(24)
    twice = [*given, *(dataclasses.replace(r, model=r.model[:-5] + ".pt") for r in given)]
    one, other = halves(twice)
    names = [{r.model.rpartition(".")[0] for r in half} for half in (one, other)]
    assert not names[0] & names[1]
    assert len(one) + len(other) == 48
    assert sum(r.truth.backdoored for r in one) == pytest.approx(12, abs=4)


def test_calibrate_writes_held_out_figures_and_knows_when_it_is_poor():
    good = calibrate(rows(), "made up")
    assert good.defensible
    assert good.model.provenance.held_out["auc"] > 0.9
    assert good.model.provenance.models == 48
    assert good.model.provenance.small
    assert calibrate(rows(), "made up", data_free=True).kind == "data-free"
    assert not calibrate(rows(shift=0.0), "noise").defensible
    with pytest.raises(UsageError, match="at least 12"):
        calibrate(rows(20), "too few")


def test_page_is_inert_and_self_contained(found, tmp_path):
    files = draw(found.detectors, tmp_path)
    assert {path.name for path in files} == {"roc.png", "reliability.png", "times.png"}
    page = render(found, "audit bench '<script>x</script>'", files)
    assert "<script>" not in page
    assert "http:" not in page
    assert "https:" not in page
    assert page.count("data:image/png;base64,") == 3
    assert "default-src 'none'" in page


def test_case_groups_by_rule_and_family():
    assert case_of(row(0, True)).group == "all-to-one square"
    assert case_of(row(1, False)).group == "clean"
