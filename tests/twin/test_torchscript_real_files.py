"""The third-party TorchScript files of the test material, when it is there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from auditor.artifacts.open import open_artifact
from tests.twin.torch_checks import measure, relative

torch.set_num_threads(1)
MODELS = Path(os.environ.get("AUDITOR_MODELS", "/work/shared/models"))
FILES = {
    "torchscript/mnist_bsusheel_scripted.pt": ((1, 28, 28), 10, "logits"),
    "torchscript/asl_rt216_traced.pt": ((1, 32, 32), 29, "logits"),
    "backdoored/mnist_verazuo_white5x5_t1.script.pt": ((1, 28, 28), 10, "softmax"),
    "backdoored/cifar10_l2_inv_t0.script.pt": ((3, 32, 32), 10, "logits"),
}


@pytest.fixture(params=list(FILES))
def case(request: pytest.FixtureRequest) -> tuple[Path, tuple[int, ...], int, str]:
    path = MODELS / request.param
    if not path.is_file():
        pytest.skip(f"test material is absent: {path}")
    return path, *FILES[request.param]


def test_real_files_agree(case: tuple[Path, tuple[int, ...], int, str]) -> None:
    path, shape, classes, tail = case
    torch.manual_seed(0)
    found = measure(path, torch.rand(3, *shape))
    assert found.parity < 1e-4
    assert found.gradient < 1e-3
    assert found.itself == 0
    assert found.tail == tail
    assert found.features is not None
    twin = open_artifact(path).open_twin()
    assert twin.sample_shape == shape
    assert twin.head is not None
    assert twin.head.shape == (classes,)


def test_real_files_are_written_back(
    case: tuple[Path, tuple[int, ...], int, str], tmp_path: Path
) -> None:
    path, shape, _, _ = case
    artifact = open_artifact(path)
    twin = artifact.open_twin()
    name = twin.head.weight
    new = twin.parameters[name].numpy() * 0.5
    artifact.write(tmp_path / "w.pt", {name: new}, {"method": "halved"})
    x = np.random.default_rng(0).random((2, *shape), np.float32)
    native = open_artifact(tmp_path / "w.pt").open_runtime().run(x)[0]
    replaced = twin.run(torch.from_numpy(x), parameters={name: torch.from_numpy(new)})
    assert relative(replaced.outputs[0], native) < 1e-5
    assert not np.array_equal(native, artifact.open_runtime().run(x)[0])
