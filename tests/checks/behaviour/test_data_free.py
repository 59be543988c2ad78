import numpy as np
import pytest

from auditor.checks.behaviour.data_free import DataFreeEvidence
from auditor.checks.interface import Skipped
from auditor.twin.interface import Layer
from tests.checks.behaviour.fakes import FakeTwin, context, outcomes
from tests.inversion.nets import trained


class TwinWithHead(FakeTwin):
    """The head is the digit reader's linear layer; `odd` rows are pushed apart."""

    def __init__(self, net, odd=None):
        weight = net.line.weight.clone()
        if odd is not None:
            weight[odd] += 1.0
        self.parameters = {"w": weight}
        self.head = Layer("line", "line", "dense", (10,), 1, weight="w", weight_axis=0)
        self.layers = (self.head,)


def run(net, odd=None, samples=False):
    ctx = context(net, n=40)
    ctx.classifier.twin = TwinWithHead(net, odd)
    if not samples:
        ctx.samples = None
    return ctx, outcomes(DataFreeEvidence(), ctx)


def test_a_planted_class_stands_out_without_samples():
    ctx, seen = run(trained(3, 200.0), odd=3)
    assert seen.metrics["data-free.margin.target"] == 3
    assert seen.metrics["data-free.margin.p"] < 1e-3
    (finding,) = seen.findings
    assert finding.target_class == 3
    assert finding.severity.word == "medium"
    assert ctx.evidence.features["data_free.margin.target"] == 3.0
    assert all(np.isfinite(v) for v in ctx.evidence.features.values())


def test_margins_alone_are_no_finding():
    _, seen = run(trained(3, 200.0), odd=5)
    assert seen.metrics["data-free.margin.target"] == 3
    assert not seen.findings


def test_with_samples_it_only_adds_context():
    _, seen = run(trained(3, 200.0), odd=3, samples=True)
    assert [f.severity.word for f in seen.findings] == ["low"]


def test_a_clean_net_gives_figures_and_no_finding():
    _, seen = run(trained())
    assert not seen.findings
    assert len(seen.metrics["per_class"]) == 10
    assert "row norm" in seen.metrics["per_class"][0]


def test_two_classes_cannot_be_compared():
    with pytest.raises(Skipped):
        outcomes(DataFreeEvidence(), context(trained(), classes=2))
