"""TorchScript archives: described without loading, and run as they were saved."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auditor.artifacts.interface import Artifact
from auditor.artifacts.open import open_artifact
from auditor.errors import UnreadableArtifact, UnsupportedArtifact
from auditor.twin.interface import NoTwin
from tests.artifacts.torch_archives import members, net
from tests.twin.torch_checks import relative, save_scripted

torch.set_num_threads(1)


def test_description_of_a_scripted_archive(tmp_path: Path) -> None:
    path = save_scripted(net().train(), torch.rand(1), tmp_path / "m.pt")
    described = open_artifact(path).describe()
    assert described.format == "torchscript"
    assert described.files[0].bytes == path.stat().st_size
    assert described.parameters == 4 * 9 + 4 + 4 * 4 + 4 * 36 * 5 + 5
    assert [(i.name, i.dtype, i.shape) for i in described.inputs] == [
        ("input", "float32", ("N", 1, None, None))
    ]
    assert described.operators["conv2d"] == 1
    assert described.operators["linear"] == 1
    assert "training" in described.extra


def test_describing_does_not_import_torch(tmp_path: Path) -> None:
    path = save_scripted(net(), torch.rand(1), tmp_path / "m.pt")
    code = (
        f"import sys; from auditor.artifacts.open import open_artifact; "
        f"a = open_artifact({str(path)!r}); a.describe(); "
        f"a.write(__import__('pathlib').Path({str(tmp_path / 'w.pt')!r}), {{}}, {{}}); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_strings_in_the_code_are_not_operators(tmp_path: Path) -> None:
    class Talks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.dim() == 9:
                raise ValueError("torch.evil(x) and ops.prim.nasty()")
            return x + 1

    path = save_scripted(Talks(), torch.rand(1), tmp_path / "m.pt")
    operators = open_artifact(path).describe().operators
    assert not {"evil", "prim::nasty"} & set(operators)
    assert operators["add"] == 1


def _saved_on_gpu(source: Path, target: Path) -> None:
    """The same archive with ``cuda:0`` as the place of every storage, as a GPU machine writes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("/data.pkl"):
                assert b"X\x03\x00\x00\x00cpu" in data
                data = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            new.writestr(item, data)


def test_an_archive_saved_on_a_gpu_opens_on_the_cpu(tmp_path: Path) -> None:
    model, x = net(), torch.rand(3, 1, 8, 8)
    _saved_on_gpu(save_scripted(model, x, tmp_path / "c.pt"), tmp_path / "g.pt")
    artifact = open_artifact(tmp_path / "g.pt")
    assert artifact.describe().extra["device"] == "saved on cuda:0"
    with torch.no_grad():
        expected = model(x)
    assert relative(artifact.open_runtime().run(x.numpy())[0], expected) < 1e-6
    assert relative(artifact.open_twin().run(x).outputs[0], expected) < 1e-6


def test_training_mode_archives_run_in_evaluation_mode(tmp_path: Path) -> None:
    model = nn.Sequential(net(), nn.Dropout(0.5)).train()
    path = save_scripted(model, torch.rand(1), tmp_path / "t.pt")
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        expected = model.eval()(x)
    artifact = open_artifact(path)
    assert relative(artifact.open_runtime().run(x.numpy())[0], expected) < 1e-6
    assert relative(artifact.open_twin().run(x).outputs[0], expected) < 1e-6


def test_tuples_and_dicts_are_flattened_in_order(tmp_path: Path) -> None:
    class Several(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            return x + 1, {"b": x * 2, "a": x * 3}

    artifact = open_artifact(save_scripted(Several(), torch.rand(1), tmp_path / "s.pt"))
    x = np.random.default_rng(0).random((2, 4)).astype(np.float32)
    outputs = artifact.open_runtime().run(x)
    for found, expected in zip(outputs, (x + 1, x * 2, x * 3), strict=True):
        assert np.allclose(found, expected)


def _several_inputs(path: Path) -> Artifact:
    class Two(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return left + right

    return open_artifact(save_scripted(Two(), torch.rand(1), path))


def test_several_inputs_are_said(tmp_path: Path) -> None:
    artifact = _several_inputs(tmp_path / "two.pt")
    assert [i.name for i in artifact.describe().inputs] == ["left", "right"]
    with pytest.raises(UnsupportedArtifact, match="left: float32, right: float32"):
        _ = artifact.open_runtime().input
    with pytest.raises(NoTwin, match="left, right"):
        artifact.open_twin()


def test_arguments_with_defaults_are_no_inputs(tmp_path: Path) -> None:
    class Flag(nn.Module):
        def forward(self, x: Tensor, scale: float = 2.0, flip: bool = False) -> Tensor:
            return (-x if flip else x) * scale

    artifact = open_artifact(save_scripted(Flag(), torch.rand(1), tmp_path / "f.pt"))
    assert [i.name for i in artifact.describe().inputs] == ["x"]
    x = torch.rand(2, 5)
    assert relative(artifact.open_runtime().run(x.numpy())[0], x * 2) < 1e-6
    assert relative(artifact.open_twin().run(x).outputs[0], x * 2) < 1e-6


def test_hostile_signatures_are_read_quickly(tmp_path: Path) -> None:
    source = save_scripted(net(), torch.rand(1), tmp_path / "m.pt")
    for index, filler in enumerate((b" " * 3_000_000, b")->" * 1_000_000, b"=" * 3_000_000)):
        path = tmp_path / f"h{index}.pt"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members(source).items():
                body = data.replace(b"input: Tensor", b"input: Tensor" + filler)
                archive.writestr(name, body if name.endswith("container.py") else data)
        started = time.perf_counter()
        open_artifact(path).describe()
        assert time.perf_counter() - started < 5


def test_quantized_archives_run_but_have_no_twin(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).eval()
        quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    artifact = open_artifact(save_scripted(quantized, torch.rand(1), tmp_path / "q.pt"))
    assert "quantized" in artifact.describe().extra
    x = torch.rand(3, 1, 4, 4)
    with torch.no_grad():
        assert relative(artifact.open_runtime().run(x.numpy())[0], model(x)) < 0.1
    with pytest.raises(NoTwin, match="quantized"):
        artifact.open_twin()


def test_optimized_archives_that_do_not_load_are_explained(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.optimize_for_inference(torch.jit.script(net())).save(str(tmp_path / "o.pt"))
    artifact = open_artifact(tmp_path / "o.pt")
    assert "optimized" in artifact.describe().extra
    for load in (artifact.open_runtime, artifact.open_twin):
        with pytest.raises(UnreadableArtifact, match="optimize_for_inference"):
            load()


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 3)], ("N", 1, 28, 28)),
        ([nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()], ("N", 3, None, None)),
        ([nn.Flatten(), nn.Linear(784, 3)], ("N", 1, 28, 28)),
        ([nn.Linear(784, 3)], ("N", 784)),
        ([nn.Conv2d(8, 4, 3, groups=4), nn.Flatten(), nn.LazyLinear(3)], ("N", 8, 32, 32)),
    ],
)
def test_the_runtime_finds_the_input_shape(
    layers: list[nn.Module], expected: tuple[object, ...], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(*layers).eval()
        if isinstance(layers[-1], nn.LazyLinear):
            model(torch.rand(1, 8, 32, 32))
    runtime = open_artifact(save_scripted(model, torch.rand(1), tmp_path / "m.pt")).open_runtime()
    assert runtime.input.shape == expected


def test_a_quantized_archive_still_tells_its_input_shape(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 900, 4)).eval()
        quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    path = save_scripted(quantized, torch.rand(1), tmp_path / "q.pt")
    assert open_artifact(path).open_runtime().input.shape == ("N", 3, 32, 32)
