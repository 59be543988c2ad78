"""A suspected graph trigger is confirmed by an input solved from its own test."""

from types import SimpleNamespace

import numpy as np
import pytest

from auditor.artifacts.onnx_parse import read_model
from auditor.artifacts.onnx_runtime import OnnxRuntime
from auditor.checks.behaviour.trigger_confirm import TriggerConfirmation
from auditor.checks.interface import BehaviourContext, Budget, Skipped
from auditor.classifier import Native
from auditor.findings import Figure, Finding, Severity
from tests.checks.file import onnx_variants
from tests.checks.file.onnx_builder import Net
from tests.checks.file.onnx_helpers import shared
from zoo.inject_onnx import STYLES, inject


def confirm(path):
    native = Native(OnnxRuntime(path, read_model(path).proto), 0, 10)
    classifier = SimpleNamespace(native=native)
    context = BehaviourContext(classifier, None, None, Budget(30), options={"path": str(path)})
    return list(TriggerConfirmation().run(context))


SOLVABLE = (
    "pixel_ids_equal fixed_convolution_relu selector_matmul_sign maximum_of_scores "
    "half_precision_gate radial_basis minimum_maximum_ramp clip_ramp tanh_step "
    "extra_feature_column "
    "dynamic_bias pooled_then_compared two_corners_differ expanded_constants "
    "pixelwise_ramp_to_scores softmax_before_and_after high_power"
)


@pytest.mark.parametrize("name", SOLVABLE.split())
def test_solved_input_flips_the_class(name, tmp_path):
    net, output = onnx_variants.build(name)
    found = confirm(net.save(tmp_path / "m.onnx", output))
    proofs = [item for item in found if isinstance(item, Finding)]
    assert [(item.severity, item.target_class) for item in proofs] == [(Severity.CRITICAL, 7)]
    assert any(isinstance(item, Figure) and item.pixels.dtype == np.uint8 for item in found)


@pytest.mark.parametrize("style", STYLES)
def test_injected_styles_are_confirmed(style, tmp_path):
    net = Net(4)
    clean, hurt = net.save(tmp_path / "c.onnx", net.scores()), tmp_path / "h.onnx"
    inject(clean, hurt, style, 3, seed=8)
    found = [item for item in confirm(hurt) if isinstance(item, Finding)]
    if style == "if-checksum":  # a checksum is no function to invert: solved only by luck
        assert {item.target_class for item in found} <= {3}
    else:
        assert [item.target_class for item in found] == [3]


@pytest.mark.parametrize("name", ["m_trig_where", "m_trig_func"])
def test_fixture_is_confirmed(name):
    found = confirm(shared("fixtures", "onnx", f"{name}.onnx"))
    assert [item.target_class for item in found if isinstance(item, Finding)] == [7]


def test_clean_model_is_skipped_with_a_reason(tmp_path):
    net = Net(4)
    with pytest.raises(Skipped, match="no gate"):
        confirm(net.save(tmp_path / "c.onnx", net.scores()))
