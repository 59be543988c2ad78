"""Every private torch call of the one adapter, tried: the place that tells when torch moved."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from auditor import _torch_private as private
from auditor.errors import UnreadableArtifact
from tests.twin.torch_checks import save_exported, save_scripted, save_traced


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.body(x) * scale


def test_the_installed_torch_is_one_the_adapter_was_tried_on() -> None:
    """A new torch: run this whole file and the slow twin table, then add its version."""
    installed = ".".join(torch.__version__.split(".")[:2])
    assert installed in private.VERIFIED_VERSIONS


def test_loading_is_silent_and_in_evaluation_mode(tmp_path: Path) -> None:
    path = save_scripted(Net().train(), torch.rand(1), tmp_path / "n.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = private.load_script(path)
    assert not module.training
    assert not module.body.training


def test_refusals_of_torch_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04 nothing")
    for load in (private.load_script, private.load_exported):
        with pytest.raises(UnreadableArtifact, match="refuses") as caught:
            load(tmp_path / "x.pt")
        assert "\n" not in str(caught.value)


def test_the_inlined_graph_tells_operators_paths_and_attributes(tmp_path: Path) -> None:
    module = private.load_script(save_scripted(Net(), torch.rand(1), tmp_path / "n.pt"))
    assert private.forward_arguments(module) == [("x", "Tensor", False), ("scale", "float", True)]
    graph = private.inlined_forward(module)
    nodes = {node.kind(): node for node in graph.nodes()}
    assert "prim::CallMethod" not in nodes
    linear = nodes["aten::linear"]
    assert private.module_path(linear) == "body.0"
    found = private.operator(linear.schema())
    assert found is not None
    assert [name for name, _, _ in found.arguments] == ["input", "weight", "bias"]
    body = private.attribute(module, "body")
    weight = private.attribute(private.attribute(body, "0"), "weight")
    assert torch.equal(weight, dict(module.named_parameters())["body.0.weight"])
    x = torch.rand(2, 4)
    assert torch.equal(found.call(x, weight, None), nn.functional.linear(x, weight))
    assert private.operator("aten::no_such_thing(Tensor x) -> Tensor") is None


def test_keyword_only_arguments_are_told() -> None:
    schema = "aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor"
    found = private.operator(schema)
    assert found is not None
    assert [by_keyword for _, _, by_keyword in found.arguments] == [False, False, True]
    assert found.overload == "Tensor"


def test_constants_come_as_python_values(tmp_path: Path) -> None:
    class Constants(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.ones(2, device=x.device)

    module = private.load_script(save_traced(Constants(), torch.rand(2), tmp_path / "c.pt"))
    graph = private.inlined_forward(module)
    found = [private.constant(n) for n in graph.nodes() if n.kind() == "prim::Constant"]
    assert torch.device("cpu") in found
    assert private.replace_devices(module, "meta") > 0
    assert 'torch.device("meta")' in module.code
    assert private.replace_devices(module, "meta") == 0


def test_exported_modules_take_a_batch_of_one(tmp_path: Path) -> None:
    path = save_exported(nn.Linear(4, 2).eval(), torch.rand(2, 4), tmp_path / "e.pt2")
    module = private.exported_module(private.load_exported(path))
    assert module(torch.rand(1, 4)).shape == (1, 2)


def test_plain_execution_gives_the_same_values(tmp_path: Path) -> None:
    module = private.load_script(save_scripted(Net(), torch.rand(1), tmp_path / "n.pt"))
    x = torch.rand(3, 4)
    with private.torchscript_warnings_ignored(), private.plain_execution():
        plain = module(x)
    assert torch.allclose(plain, module(x))
