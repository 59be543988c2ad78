"""The TorchScript twin agrees with torch.jit, differentiates, and sees inside blocks."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auditor.artifacts.open import open_artifact
from auditor.twin.interface import NoTwin
from tests.twin.torch_checks import (
    WAYS,
    measure,
    relative,
    save_frozen,
    save_scripted,
    save_traced,
)
from tests.twin.torch_nets import NETS, make

torch.set_num_threads(1)


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("name", list(NETS))
def test_twin_agrees_with_the_runtime(name: str, way: str, tmp_path: Path) -> None:
    net, x, tail = make(name)
    suffix, save = WAYS[way]
    found = measure(save(net, x[:1], tmp_path / f"net{suffix}"), x)
    assert found.parity < 1e-4
    assert found.gradient < 1e-3
    assert found.itself == 0.0
    assert found.tail == tail
    assert found.features is not None
    assert found.weighted >= 1


def test_logits_are_the_values_before_the_tail(tmp_path: Path) -> None:
    net, x, _ = make("mlp")
    twin = open_artifact(save_scripted(net, x, tmp_path / "m.pt")).open_twin()
    with torch.no_grad():
        expected = net[:-1](x)
    run = twin.run(x)
    assert relative(run.logits, expected) < 1e-6
    assert relative(run.outputs[0], expected.softmax(1)) < 1e-6
    head = twin.head
    assert head is not None
    assert (head.weight, head.bias, head.weight_axis) == ("4.weight", "4.bias", 0)


def test_values_inside_loops_are_seen_once_per_trip(tmp_path: Path) -> None:
    net, x, _ = make("blocks")
    twin = open_artifact(save_scripted(net, x, tmp_path / "b.pt")).open_twin()
    names = [layer.name for layer in twin.layers if layer.weight == "step.weight"]
    assert names == ["step", "step@1", "step@2"]
    values = twin.run(x, wanted=names).values
    with torch.no_grad():
        y = torch.relu(net.stem(x))
        for name in names:
            expected = net.step(y)
            assert relative(values[name], expected) < 1e-6
            y = torch.relu(expected)


def test_wanted_values_before_inplace_operators_keep_what_they_were(tmp_path: Path) -> None:
    net, x, _ = make("bn inplace")
    twin = open_artifact(save_traced(net, x, tmp_path / "i.pt")).open_twin()
    before = x.clone()
    run = twin.run(x, wanted=["bn", "conv"])
    with torch.no_grad():
        expected = net.bn(net.conv((x - 0.5) * 2))
    assert relative(run.values["bn"], expected) < 1e-5
    assert (expected < 0).any()
    assert torch.equal(x, before)


def test_gradients_reach_intermediate_values_and_parameters(tmp_path: Path) -> None:
    net, x, _ = make("bn inplace")
    twin = open_artifact(save_scripted(net, x, tmp_path / "i.pt")).open_twin()
    leaf = x.clone().requires_grad_()
    weight = twin.parameters["conv.weight"].clone().requires_grad_()
    run = twin.run(leaf, wanted=["bn"], parameters={"conv.weight": weight})
    score = run.logits[:, 0].sum()
    gradients = torch.autograd.grad(score, [leaf, weight, run.values["bn"]])
    assert all(g.abs().max() > 0 for g in gradients)
    own = x.clone().requires_grad_()
    loss = net.fc(net.relu(net.bn(net.conv((own - 0.5) * 2))).flatten(1))[:, 0].sum()
    expected = torch.autograd.grad(loss, [own, net.conv.weight])
    assert relative(gradients[0], expected[0]) < 1e-4
    assert relative(gradients[1], expected[1]) < 1e-4
    assert not any(p.requires_grad for p in twin.parameters.values())


def test_unknown_names_are_key_errors(tmp_path: Path) -> None:
    net, x, _ = make("cnn")
    twin = open_artifact(save_scripted(net, x, tmp_path / "c.pt")).open_twin()
    with pytest.raises(KeyError, match="nowhere"):
        twin.run(x, wanted=["nowhere"])
    with pytest.raises(KeyError, match="nothing"):
        twin.run(x, parameters={"nothing": x})


def test_tied_weights_have_one_name_and_change_together(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(9, 9, bias=False)
            self.b = nn.Linear(9, 9, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x.flatten(1))))

    torch.manual_seed(0)
    x = torch.rand(2, 1, 3, 3)
    artifact = open_artifact(save_scripted(Tied().eval(), x, tmp_path / "t.pt"))
    twin = artifact.open_twin()
    assert list(twin.parameters) == ["a.weight"]
    new = twin.parameters["a.weight"] * 1.5
    artifact.write(tmp_path / "u.pt", {"a.weight": new.numpy()}, {})
    native = open_artifact(tmp_path / "u.pt").open_runtime().run(x.numpy())[0]
    assert relative(twin.run(x, parameters={"a.weight": new}).outputs[0], native) < 1e-6


def test_a_channels_last_batch_does_not_trip_views(tmp_path: Path) -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3 * 64, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.view(x.shape[0], -1))

    artifact = open_artifact(save_scripted(Views().eval(), torch.rand(1), tmp_path / "v.pt"))
    x = torch.rand(5, 3, 8, 8).to(memory_format=torch.channels_last)
    plain = artifact.open_twin().run(x.contiguous()).outputs[0]
    assert relative(artifact.open_twin().run(x).outputs[0], plain) == 0
    strided = np.moveaxis(np.moveaxis(x.numpy(), 1, -1).copy(), -1, 1)
    assert not strided.flags.c_contiguous
    assert relative(artifact.open_runtime().run(strided)[0], plain) < 1e-6


def test_half_precision_archives_compute_in_float32(tmp_path: Path) -> None:
    net, x, _ = make("cnn")
    artifact = open_artifact(save_scripted(net.half(), x, tmp_path / "h.pt"))
    assert artifact.describe().inputs[0].dtype == "float16"
    twin = artifact.open_twin()
    assert {p.dtype for p in twin.parameters.values()} == {torch.float32}
    assert twin.reduced_precision
    assert relative(twin.run(x).outputs[0], artifact.open_runtime().run(x.numpy())[0]) < 5e-3


def test_a_trace_of_one_sample_is_looped(tmp_path: Path) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.view(int(x.shape[0]), 64))

    net = One().eval()
    artifact = open_artifact(save_traced(net, torch.rand(1, 1, 8, 8), tmp_path / "o.pt"))
    x = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        expected = net(x)
    assert relative(artifact.open_runtime().run(x.numpy())[0], expected) < 1e-6
    run = artifact.open_twin().run(x, wanted=["view"])
    assert relative(run.outputs[0], expected) < 1e-6
    assert run.values["view"].shape == (5, 64)


@pytest.mark.parametrize("rows", [1, 8])
def test_a_trace_with_a_baked_batch_is_padded(rows: int, tmp_path: Path) -> None:
    class Baked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.reshape(rows, 64))

    net = Baked().eval()
    artifact = open_artifact(save_traced(net, torch.rand(rows, 1, 8, 8), tmp_path / "o.pt"))
    x = torch.rand(11, 1, 8, 8)
    with torch.no_grad():
        expected = net.fc(x.flatten(1))
    assert relative(artifact.open_runtime().run(x.numpy())[0], expected) < 1e-6
    leaf = x.clone().requires_grad_()
    run = artifact.open_twin().run(leaf)
    assert relative(run.outputs[0].detach(), expected) < 1e-6
    (gradient,) = torch.autograd.grad(run.logits[:, 1].sum(), leaf)
    assert relative(gradient.flatten(1), net.fc.weight[1].detach().expand(11, 64)) < 1e-6


def test_a_trace_under_no_grad_of_a_fused_encoder_still_differentiates(tmp_path: Path) -> None:
    net, x, _ = make("encoder")
    with torch.no_grad():
        path = save_traced(net, x[:2], tmp_path / "e.pt")
    artifact = open_artifact(path)
    assert "_transformer_encoder_layer_fwd" in artifact.describe().operators
    found = measure(artifact, x)
    assert found.parity < 1e-4
    assert found.gradient < 1e-3


def test_statistics_of_a_training_trace_are_left_alone(tmp_path: Path) -> None:
    net, x, _ = make("bn inplace")
    artifact = open_artifact(save_traced(net.train(), torch.rand(4, 3, 16, 16), tmp_path / "t.pt"))
    runtime, twin = artifact.open_runtime(), artifact.open_twin()
    first = runtime.run(x.numpy())[0]
    assert relative(runtime.run(x.numpy())[0], first) == 0
    mean = twin.parameters["bn.running_mean"].clone()
    assert relative(twin.run(x).outputs[0], first) < 1e-5
    assert torch.equal(twin.parameters["bn.running_mean"], mean)


def test_devices_written_into_a_trace_are_replaced(tmp_path: Path) -> None:
    class OnDevice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x + torch.ones(4, device=x.device))

    net = OnDevice().eval()
    path = save_traced(net, torch.rand(2, 4), tmp_path / "d.pt")
    gpu = tmp_path / "gpu.pt"
    found = 0
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(gpu, "w") as target:
        for item in source.infolist():
            data = source.read(item)
            if item.filename.endswith(".py"):
                found += data.count(b'torch.device("cpu")')
                data = data.replace(b'torch.device("cpu")', b'torch.device("cuda:0")')
            target.writestr(item, data)
    assert found
    artifact, x = open_artifact(gpu), torch.rand(3, 4)
    with torch.no_grad():
        expected = net(x)
    assert relative(artifact.open_runtime().run(x.numpy())[0], expected) < 1e-6
    assert relative(artifact.open_twin().run(x).outputs[0].detach(), expected) < 1e-6


def test_a_network_without_gradient_has_no_twin(tmp_path: Path) -> None:
    class Hard(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).argmax(1)

    artifact = open_artifact(save_scripted(Hard().eval(), torch.rand(1), tmp_path / "h.pt"))
    assert artifact.open_runtime().run(np.zeros((3, 4), np.float32))[0].shape == (3,)
    with pytest.raises(NoTwin, match="no gradient"):
        artifact.open_twin().run(torch.rand(3, 4))


def test_rounding_is_named(tmp_path: Path) -> None:
    class Rounds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x + torch.round(x * 4))

    twin = open_artifact(save_scripted(Rounds().eval(), torch.rand(1), tmp_path / "r.pt"))
    assert list(twin.open_twin().without_gradient) == ["round"]


def test_saving_inside_forward_is_refused_by_name(tmp_path: Path) -> None:
    class Saves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.save(x, "never.pt")
            return x

    path = save_scripted(Saves(), torch.rand(1), tmp_path / "s.pt")
    with pytest.raises(NoTwin, match="save"):
        open_artifact(path).open_twin()


def test_frozen_weights_are_named_as_the_archive_stores_them(tmp_path: Path) -> None:
    net, x, _ = make("cnn")
    artifact = open_artifact(save_frozen(net, x, tmp_path / "f.pt"))
    assert "frozen" in artifact.describe().extra
    twin = artifact.open_twin()
    assert all(name.startswith("constants.c") for name in twin.parameters)
    head = twin.head
    assert head is not None and head.weight is not None
    assert torch.equal(twin.parameters[head.weight], net[4].weight.detach())


def test_finite_differences_notice_a_wrong_gradient(tmp_path: Path) -> None:
    """The measure used above can fail: rounding in the forward pass spoils the slope."""
    from tests.twin.finite_differences import gradient_error

    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x * x.detach())

    twin = open_artifact(save_scripted(Detached().eval(), torch.rand(1), tmp_path / "d.pt"))
    error = gradient_error(twin.open_twin(), torch.rand(1, 16) + 0.5)
    assert error.worst > 0.1
