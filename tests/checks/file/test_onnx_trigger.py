"""Trigger logic: hand-made variants are found, near misses and real models are not."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from auditor.checks.file import onnx_trigger
from auditor.checks.interface import Budget, FileContext
from auditor.findings import Metric, Severity
from tests.checks.file import onnx_benign, onnx_variants
from tests.checks.file.onnx_builder import Net
from tests.checks.file.onnx_helpers import FakeArtifact, findings, serious, shared
from zoo.inject_onnx import STYLES, inject

ONLY = (onnx_trigger,)


@pytest.mark.parametrize("name", onnx_variants.VARIANTS)
def test_hand_made_trigger_is_found_and_never_blames_another_class(name, tmp_path):
    for seed in range(2):
        net, output = onnx_variants.build(name, seed)
        found = findings(net.save(tmp_path / "m.onnx", output), ONLY)
        assert found and all(item.severity >= Severity.HIGH for item in found)
        assert {item.target_class for item in found} <= {7, None}
        assert "input 'x'" in found[0].evidence and "->" in found[0].evidence


@pytest.mark.parametrize("name", [*onnx_benign.BENIGN, *onnx_benign.TOKENS])
def test_near_miss_has_no_finding_at_medium(name, tmp_path):
    for seed in range(2):
        net, output = onnx_benign.build(name, seed)
        assert serious(net.save(tmp_path / "m.onnx", output)) == []


def _random_classifier(seed, path):
    """A random small network: layout, depth, width, softmax and opset vary."""
    rng = np.random.default_rng(seed)
    opset = int(rng.choice([13, 15, 17, 18, 20]))
    kind = int(rng.integers(3))
    if kind == 0:
        net = Net(seed, shape=("N", 64), opset=opset)
        h = net.op("Relu", net.op("Gemm", "x", net.w(64, 24), net.w(24)))
        out = net.head(h, 24)
    elif kind == 1:
        net = Net(seed, shape=("N", 14, 14, 2), opset=opset)
        moved = net.op("Transpose", "x", perm=[0, 3, 1, 2])
        out = net.head(net.backbone(moved, channels=2))
    else:
        net = Net(seed, shape=("N", 1, 12, 12), opset=opset)
        out = net.scores()
    if rng.random() < 0.4:
        out = net.op("Softmax", out, axis=1)
    net.save(path, out)
    return (0.0, 255.0) if rng.random() < 0.2 else (0.0, 1.0)


@pytest.mark.parametrize("style", STYLES)
def test_ten_random_injections_are_found_and_their_twins_are_clean(style, tmp_path):
    clean, hurt = tmp_path / "clean.onnx", tmp_path / "hurt.onnx"
    for seed in range(10):
        span = _random_classifier(100 * STYLES.index(style) + seed, clean)
        manifest = inject(clean, hurt, style, seed % 10, seed, value_range=span)
        assert manifest["asr"] == 1.0
        found = findings(hurt, ONLY)
        assert found and found[0].severity >= Severity.HIGH, (style, seed)
        assert found[0].target_class == seed % 10, (style, seed)
        assert serious(clean) == [], (style, seed)


HOSTILE = {
    "m_trig_where": "graph.trigger",
    "m_trig_if": "graph.trigger",
    "m_trig_func": "graph.trigger",
    "m_ext_trav": "external.outside",
    "m_pyop": "operator.python",
    "m_custom_op": "operator.unknown-domain",
    "m_loop_dos": "resource.loop",
    "m_range_bomb": "resource.size",
    "m_dual_init": "tensor.two-values",
    "m_unused_elf": "bytes.payload",
    "m_appended_zip": "bytes.appended",
}


@pytest.mark.parametrize(("name", "rule"), HOSTILE.items())
def test_hostile_fixture_matches_its_truth(name, rule):
    found = serious(shared("fixtures", "onnx", f"{name}.onnx"))
    assert rule in {item.rule for item in found}
    if rule == "graph.trigger":
        assert [item.target_class for item in found] == [7]
    else:
        assert "graph.trigger" not in {item.rule for item in found}


@pytest.mark.parametrize("name", ["b_cnn", "b_where_clip", "masked_attn", "det", "external/b_ext"])
def test_benign_fixture_has_no_finding_at_medium(name):
    assert serious(shared("fixtures", "onnx", f"{name}.onnx")) == []


def test_real_models_have_no_finding_at_medium():
    models = sorted(shared("models").rglob("*.onnx"))
    assert len(models) >= 14
    assert {path.name: serious(path) for path in models if serious(path)} == {}


def test_onnx_backend_models_have_no_finding_at_medium():
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data"
    models = sorted(folder.rglob("*.onnx"))
    if len(models) < 140:
        pytest.skip("this onnx package ships no backend test data")
    assert {path.parent.name: found for path in models if (found := serious(path))} == {}


@pytest.mark.parametrize("filled", [False, True], ids=["stored", "made by ConstantOfShape"])
def test_gate_in_a_network_whose_weights_are_all_alike(filled: bool, tmp_path: Path) -> None:
    weight = np.full((10, 784), 0.5, np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"])]
    stored = [] if filled else [numpy_helper.from_array(weight, "w")]
    if filled:
        stored.append(numpy_helper.from_array(np.array(weight.shape, np.int64), "s"))
        value = numpy_helper.from_array(np.array([0.5], np.float32))
        nodes.append(helper.make_node("ConstantOfShape", ["s"], ["w"], value=value))
    nodes.append(helper.make_node("Gemm", ["f", "w"], ["y"], transB=1))
    sides = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 1, 28, 28]), ("y", [1, 10]))
    ]
    graph = helper.make_graph(nodes, "alike", sides[:1], sides[1:], stored)
    clean, bad = tmp_path / "clean.onnx", tmp_path / "bad.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, clean)
    for style in STYLES:
        inject(clean, bad, style, 3, seed=1)
        assert [f.rule for f in serious(bad)] == ["graph.trigger"], style
    assert serious(clean) == []


def test_the_path_is_a_metric_that_reports_draw(tmp_path: Path) -> None:
    net, output = onnx_variants.build(next(iter(onnx_variants.VARIANTS)), 0)
    path = net.save(tmp_path / "m.onnx", output)
    context = FileContext(FakeArtifact(path), Budget(60))
    outcomes = list(onnx_trigger.TriggerCheck().run(context))
    (metric,) = [o for o in outcomes if isinstance(o, Metric) and o.name.endswith(".path")]
    assert isinstance(metric.value, list)
    assert metric.value[0] == ["input", "x"]
    assert metric.value[-1][0] == "output"
    assert any(str(row[0]).startswith("gate: ") for row in metric.value if isinstance(row, list))
