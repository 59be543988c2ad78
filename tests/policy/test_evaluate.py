"""A policy applied: thresholds, severities, suppressions, expiry, baseline."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from auditor.errors import UsageError
from auditor.findings import CheckResult, Finding, Severity
from auditor.policy.baseline import load_baseline
from auditor.policy.evaluate import Outcome, evaluate
from auditor.policy.model import Policy
from auditor.report.build import Parts, build_report
from auditor.verdict import decide

TODAY = datetime.date(2026, 11, 21)
PATH = "models/a.onnx"


def finding(severity: Severity = Severity.HIGH, **changes: Any) -> Finding:
    values = {"rule": "graph.trigger", "location": "conv1"} | changes
    return Finding(severity=severity, title="t", evidence="e", why="w", remedy="r", **values)


def result(*findings: Finding, **metrics: Any) -> CheckResult:
    status = "flagged" if findings else "passed"
    named = {name.replace("__", "."): value for name, value in metrics.items()}
    return CheckResult("graph", status, "", 0.1, findings, named)


def run(policy: Policy, *checks: CheckResult, **options: Any) -> Outcome:
    return evaluate(policy, checks, path=PATH, today=TODAY, **options)


def exit_code(outcome: Outcome, policy: Policy) -> int:
    found = [f for _, f in outcome.findings]
    return decide(found, [], samples_given=True, fail_on=policy.gate, unmet=outcome.unmet).exit_code


def suppression(**changes: Any) -> dict[str, Any]:
    return {"rule": "graph.*", "reason": "ours", "expires": "2026-12-31"} | changes


def test_an_empty_policy_changes_nothing() -> None:
    outcome = run(Policy(), result(finding()))
    assert outcome == Outcome((("graph", finding()),))


def test_a_failing_threshold_exits_1_and_names_it() -> None:
    policy = Policy(thresholds=("accuracy.clean >= 0.97",))
    outcome = run(policy, result(accuracy__clean=0.9))
    [(check, found)] = outcome.findings
    assert check == "policy"
    assert found.rule == "policy.threshold"
    assert "accuracy.clean >= 0.97" in found.title
    assert "0.9" in found.title
    assert exit_code(outcome, policy) == 1


def test_a_met_threshold_is_silent() -> None:
    policy = Policy(thresholds=("accuracy.clean >= 0.9",))
    outcome = run(policy, result(accuracy__clean=0.9))
    assert outcome == Outcome(())
    assert exit_code(outcome, policy) == 0


def test_a_threshold_on_what_was_not_measured_is_incomplete() -> None:
    policy = Policy(thresholds=("robustness.pgd@0.1 >= 0.6",))
    outcome = run(policy, result())
    assert "robustness.pgd@0.1" in outcome.unmet[0]
    assert exit_code(outcome, policy) == 3


def test_extra_metrics_count() -> None:
    policy = Policy(thresholds=("backdoor.probability < 0.5",))
    assert run(policy, result(), metrics={"backdoor.probability": 0.7}).findings
    assert not run(policy, result(), metrics={"backdoor.probability": 0.1}).findings


@pytest.mark.parametrize("status", ["skipped", "incomplete", None])
def test_a_required_check_that_did_not_run_is_unmet(status: str | None) -> None:
    checks = [] if status is None else [CheckResult("probe", status, "no samples", 0.0)]
    policy = Policy(required=("probe",))
    outcome = run(policy, *checks)
    assert "probe" in outcome.unmet[0]
    assert exit_code(outcome, policy) == 3


def test_severities_by_exact_rule_before_pattern() -> None:
    policy = Policy(severities={"graph.*": "info", "graph.trigger": "critical"})
    outcome = run(policy, result(finding(), finding(rule="graph.other")))
    assert [f.severity for _, f in outcome.findings] == [Severity.CRITICAL, Severity.INFO]


def test_a_suppressed_finding_does_not_count_and_keeps_its_reason() -> None:
    policy = Policy.model_validate({"suppress": [suppression()]})
    outcome = run(policy, result(finding()))
    assert outcome.findings == ()
    [dropped] = outcome.suppressions
    assert (dropped.kind, dropped.reason, dropped.expires) == ("policy", "ours", "2026-12-31")
    assert exit_code(outcome, policy) == 0


def test_a_suppression_holds_on_its_last_day() -> None:
    policy = Policy.model_validate({"suppress": [suppression(expires=TODAY)]})
    assert run(policy, result(finding())).findings == ()


def test_an_expired_suppression_fails_even_for_a_low_finding() -> None:
    policy = Policy.model_validate({"suppress": [suppression(expires="2026-11-20")]})
    outcome = run(policy, result(finding(Severity.LOW)))
    assert [f.rule for _, f in outcome.findings] == ["graph.trigger", "policy.expired"]
    assert exit_code(outcome, policy) == 1


def test_an_expired_suppression_of_nothing_is_only_a_notice() -> None:
    policy = Policy.model_validate({"suppress": [suppression(expires="2026-11-20")]})
    outcome = run(policy, result())
    assert outcome.findings == ()
    assert "matched nothing" in outcome.notices[0]


@pytest.mark.parametrize(
    "narrow",
    [
        {"path": "other/*"},
        {"location": "conv2"},
        {"target_class": 3},
        {"fingerprint": "0" * 16},
        {"rule": "probe.*"},
    ],
)
def test_a_suppression_covers_no_more_than_it_says(narrow: dict[str, Any]) -> None:
    policy = Policy.model_validate({"suppress": [suppression(**narrow)]})
    assert len(run(policy, result(finding())).findings) == 1


def baseline_file(folder: Path, *findings: Finding, path: str = PATH) -> Path:
    check = result(*findings)
    report = build_report(
        Parts(path, checks=[check]), decide(findings, [check], samples_given=True)
    )
    target = folder / "old.json"
    target.write_text(json.dumps(report.to_json()))
    return target


def test_only_new_findings_fail_with_a_baseline(tmp_path: Path) -> None:
    baseline = load_baseline(baseline_file(tmp_path, finding()))
    new = finding(location="conv9")
    outcome = run(Policy(), result(finding(), new), baseline=baseline)
    assert outcome.findings == (("graph", new),)
    assert outcome.suppressions[0].kind == "baseline"


def test_a_known_finding_that_got_worse_counts(tmp_path: Path) -> None:
    baseline = load_baseline(baseline_file(tmp_path, finding(Severity.LOW)))
    assert run(Policy(), result(finding(Severity.HIGH)), baseline=baseline).findings


def test_a_baseline_of_another_model_hides_nothing(tmp_path: Path) -> None:
    baseline = load_baseline(baseline_file(tmp_path, finding(), path="other/a.onnx"))
    assert run(Policy(), result(finding()), baseline=baseline).findings


def test_an_envelope_of_reports_is_a_baseline_too(tmp_path: Path) -> None:
    single = baseline_file(tmp_path, finding(), path="a.onnx")
    envelope = tmp_path / "all.json"
    envelope.write_text(json.dumps({"reports": [json.loads(single.read_text())]}))
    outcome = run(Policy(), result(finding()), baseline=load_baseline(envelope))
    assert outcome.findings == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"reports": 3}', "not json"])
def test_a_wrong_baseline_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"old\.json is not an audit report"):
        load_baseline(path)


def test_a_missing_baseline_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the report"):
        load_baseline(tmp_path / "none.json")
