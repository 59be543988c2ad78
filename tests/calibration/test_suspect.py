from auditor.calibration.judge import Judgement
from auditor.calibration.suspect import RULE, told
from auditor.findings import CheckResult, Finding, Severity

HIGH = Judgement(0.97, (0.8, 0.99), (), "")


def results(*findings):
    return [
        CheckResult("inversion", "flagged" if findings else "passed", "", 1.0, tuple(findings)),
        CheckResult("consensus", "passed", "", 1.0, metrics={"consensus.target": 4}),
    ]


def finding(severity):
    return Finding("inversion.trigger", severity, "t", "e", "w", "r", target_class=2)


def test_a_high_probability_that_nothing_else_says_asks_for_a_look():
    _, consensus = told(results(), HIGH)
    (found,) = consensus.findings
    assert (consensus.status, found.rule, found.severity) == ("flagged", RULE, Severity.MEDIUM)
    assert found.target_class == 4
    assert "0.97 (0.80 to 0.99)" in found.evidence


def test_it_does_not_repeat_what_a_search_found():
    assert told(results(finding(Severity.HIGH)), HIGH)[1].findings == ()
    assert told(results(finding(Severity.LOW)), HIGH)[1].findings


def test_unsure_or_outside_calibration_is_no_finding():
    for said in (
        Judgement(0.89, (0.7, 0.95)),
        Judgement(0.95, (0.4, 0.99)),
        Judgement(0.97, (0.8, 0.99), ("28 pixels a side",)),
        Judgement(),
    ):
        assert told(results(), said) == results()


def test_a_check_that_did_not_finish_is_left_alone():
    cut = [CheckResult("consensus", "incomplete", "time budget", 1.0)]
    assert told(cut, HIGH) == cut
