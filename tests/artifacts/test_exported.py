"""``.pt2`` archives: described from their JSON, run, differentiated, written back."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auditor.artifacts.open import open_artifact
from auditor.errors import UnreadableArtifact, UnsupportedArtifact
from auditor.twin.interface import NoTwin
from tests.twin.torch_checks import measure, relative, save_exported

torch.set_num_threads(1)


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4 * 36, 5), nn.Softmax(1)).eval()


def export(model: nn.Module, x: Tensor, path: Path) -> Path:
    torch.export.save(torch.export.export(model, (x,)), str(path))
    return path


def test_description_names_shapes_and_operators(tmp_path: Path) -> None:
    path = save_exported(net(), torch.rand(2, 3, 8, 8), tmp_path / "m.pt2")
    described = open_artifact(path).describe()
    assert described.format == "pt2"
    assert described.producer == f"PyTorch {torch.__version__}"
    (image,), (scores,) = described.inputs, described.outputs
    assert (image.name, image.dtype, image.shape[1:]) == ("input", "float32", (3, 8, 8))
    assert isinstance(image.shape[0], str)
    assert scores.shape == (image.shape[0], 5)
    assert described.parameters == sum(
        t.numel() for t in net().state_dict().values() if t.is_floating_point()
    )
    assert described.operators == {
        "conv2d": 1, "batch_norm": 1, "relu_": 1, "flatten": 1, "linear": 1, "softmax": 1
    }  # fmt: skip


def test_describing_does_not_import_torch(tmp_path: Path) -> None:
    path = save_exported(net(), torch.rand(2, 3, 8, 8), tmp_path / "m.pt2")
    code = (
        f"import sys; from auditor.artifacts.open import open_artifact; "
        f"open_artifact({str(path)!r}).describe(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_dynamic_and_static_batches(rows: int, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    if rows:
        export(net(), torch.rand(rows, 3, 8, 8), path)
    else:
        save_exported(net(), torch.rand(2, 3, 8, 8), path)
    x = torch.rand(5, 3, 8, 8)
    found = measure(path, x)
    assert found.parity < 1e-4
    assert found.gradient < 1e-3
    assert found.itself == 0
    assert (found.tail, found.features) == ("softmax", "3/flatten")
    artifact = open_artifact(path)
    runtime, twin = artifact.open_runtime(), artifact.open_twin()
    one = runtime.run(x[:1].numpy())[0]
    assert relative(one, runtime.run(x.numpy())[0][:1]) < 1e-6
    assert relative(twin.run(x[:1]).outputs[0], one) < 1e-6


def test_unbatched_programs_and_lifted_constants(tmp_path: Path) -> None:
    class Unbatched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()
            self.mean = torch.rand(3, 1, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"scores": self.net((x - self.mean)[None])[0]}

    path = export(Unbatched().eval(), torch.rand(3, 8, 8), tmp_path / "u.pt2")
    x = torch.rand(4, 3, 8, 8)
    found = measure(path, x)
    assert found.parity < 1e-4
    assert found.gradient < 1e-3
    assert found.tail == "softmax"
    artifact = open_artifact(path)
    assert "constants.mean" in artifact.open_twin().parameters
    artifact.write(tmp_path / "w.pt2", {"constants.mean": np.zeros((3, 1, 1))}, {})
    changed = open_artifact(tmp_path / "w.pt2")
    zero = {"constants.mean": torch.zeros(3, 1, 1)}
    native = changed.open_runtime().run(x.numpy())[0]
    assert relative(artifact.open_twin().run(x, parameters=zero).outputs[0], native) < 1e-6


def test_tied_weights_have_one_name(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(9, 9, bias=False)
            self.b = nn.Linear(9, 9, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x)))

    path = save_exported(Tied().eval(), torch.rand(2, 9), tmp_path / "t.pt2")
    artifact, x = open_artifact(path), torch.rand(3, 9)
    twin = artifact.open_twin()
    assert len(twin.parameters) == 1
    (name,) = twin.parameters
    new = twin.parameters[name] * 1.5
    artifact.write(tmp_path / "u.pt2", {name: new.numpy()}, {})
    native = open_artifact(tmp_path / "u.pt2").open_runtime().run(x.numpy())[0]
    assert relative(twin.run(x, parameters={name: new}).outputs[0], native) < 1e-6


def test_torch_reads_the_provenance(tmp_path: Path) -> None:
    path = save_exported(net(), torch.rand(2, 3, 8, 8), tmp_path / "m.pt2")
    open_artifact(path).write(tmp_path / "w.pt2", {}, {"seed": "7"})
    extra = {"audit_provenance.json": ""}
    torch.export.load(str(tmp_path / "w.pt2"), extra_files=extra)
    assert json.loads(extra["audit_provenance.json"]) == {"seed": "7"}


def test_control_flow_and_several_inputs_have_no_twin(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    program = torch.export.export(Two(), (torch.rand(2, 3), torch.rand(2, 3)))
    torch.export.save(program, str(tmp_path / "two.pt2"))
    artifact = open_artifact(tmp_path / "two.pt2")
    assert len(artifact.describe().inputs) == 2
    with pytest.raises(NoTwin, match="2 tensors"):
        artifact.open_twin()
    with pytest.raises(UnsupportedArtifact, match="one image"):
        _ = artifact.open_runtime().input

    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cond(x.sum() > 0, lambda v: v + 1, lambda v: v - 1, (x,))

    path = export(Branch(), torch.rand(2, 3), tmp_path / "cond.pt2")
    with pytest.raises(NoTwin, match="control flow"):
        open_artifact(path).open_twin()


def test_a_program_exported_on_a_gpu_opens_on_the_cpu(tmp_path: Path) -> None:
    path = save_exported(net(), torch.rand(2, 3, 8, 8), tmp_path / "c.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "g.pt2", "w") as new:
        for item in old.infolist():
            data, cpu = old.read(item), b'{"type": "cpu", "index": null}'
            if item.filename.endswith(".json") and cpu in data:
                data = data.replace(cpu, b'{"type": "cuda", "index": 0}')
            new.writestr(item, data)
    assert (tmp_path / "g.pt2").read_bytes().count(b"cuda") > 3
    artifact, x = open_artifact(tmp_path / "g.pt2"), torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        expected = net()(x)
    assert relative(artifact.open_runtime().run(x.numpy())[0], expected) < 1e-6
    assert relative(artifact.open_twin().run(x).outputs[0], expected) < 1e-6


def _with_model(source: Path, target: Path, text: bytes) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            inside = item.filename.partition("/")[2]
            new.writestr(item, text if inside.startswith("models/") else old.read(item))
    return target


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"graph_module": 3}', b"[" * 100_000, b'{"graph_module":{"graph":'],
)
def test_broken_programs_are_unreadable(text: bytes, tmp_path: Path) -> None:
    path = save_exported(net(), torch.rand(2, 3, 8, 8), tmp_path / "m.pt2")
    broken = _with_model(path, tmp_path / "b.pt2", text)
    with pytest.raises(UnreadableArtifact) as caught:
        open_artifact(broken).describe()
    assert "\n" not in str(caught.value)
    with pytest.raises(UnreadableArtifact, match=r"JSON|refuses|incomplete"):
        open_artifact(_with_model(path, tmp_path / "c.pt2", text)).open_twin()
