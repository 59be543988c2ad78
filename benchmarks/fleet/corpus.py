"""A folder of small artifacts: zoo models, copies with changed weights, and 3 % hostile or broken.

Everything is drawn from a seed. The digits zoo (clean, backdoored, adversarially trained, each as
ONNX and TorchScript) is trained once; copies differ from it by weights scaled a little, so that no
two files have the same content.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np

SHARE_HOSTILE = 0.03


def build(folder: Path, count: int, seed: int = 0, zoo: Path | None = None) -> dict[str, int]:
    """Write `count` artifacts into `folder`; how many of each kind. `zoo` holds the originals, and
    is filled when it is empty."""
    originals = _originals(zoo or folder.parent / f"{folder.name}-zoo")
    rng = np.random.default_rng(seed)
    hostile = round(SHARE_HOSTILE * count)
    kinds = {"zoo": 0, "mutated": 0}
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count - hostile):
        source = originals[index % len(originals)]
        target = folder / f"{index // 100:02d}" / f"m{index:05d}{source.suffix}"
        target.parent.mkdir(exist_ok=True)
        if index < len(originals):
            target.write_bytes(source.read_bytes())
            kinds["zoo"] += 1
        else:
            mutate(source, target, rng)
            kinds["mutated"] += 1
    for index in range(hostile):
        make = HOSTILE[index % len(HOSTILE)]
        make(folder / f"h{index:04d}", originals[0], index)
        kinds[make.__name__] = kinds.get(make.__name__, 0) + 1
    return kinds


def mutate(source: Path, target: Path, rng: np.random.Generator) -> None:
    """A copy of our own model in which one parameter is scaled by 0.99 to 1.01."""
    from auditor.artifacts.open import open_artifact

    artifact = open_artifact(source)
    parameters = _parameters(source)
    name = sorted(parameters)[int(rng.integers(len(parameters)))]
    value = parameters[name]
    scaled = value * rng.uniform(0.99, 1.01, size=value.shape).astype(value.dtype)
    artifact.write(target, {name: scaled}, {})


_CACHE: dict[Path, dict[str, np.ndarray]] = {}


def _parameters(source: Path) -> dict[str, np.ndarray]:
    """Float parameters by the name `Artifact.write` knows."""
    if source not in _CACHE:
        from auditor.artifacts.open import open_artifact

        twin = open_artifact(source).open_twin()
        _CACHE[source] = {
            name: value.detach().numpy()
            for name, value in twin.parameters.items()
            if value.dtype.is_floating_point and value.numel() > 1
        }
    return _CACHE[source]


def _originals(zoo: Path) -> list[Path]:
    found = sorted(p for p in zoo.glob("*") if p.suffix in (".onnx", ".pt"))
    if found:
        return found
    from zoo.datasets import load_dataset
    from zoo.recipes.registry import Workshop, resolve

    zoo.mkdir(parents=True, exist_ok=True)
    shop = Workshop(load_dataset("digits"), zoo)
    for recipe in resolve(["all"]):
        recipe.run(shop)
    return sorted(p for p in zoo.glob("*") if p.suffix in (".onnx", ".pt"))


def truncated(path: Path, good: Path, index: int) -> None:
    """Cut in the middle."""
    data = good.read_bytes()
    path.with_suffix(".onnx").write_bytes(data[: len(data) // 2 + index])


def appended(path: Path, good: Path, index: int) -> None:
    """Foreign bytes after the model."""
    path.with_suffix(".onnx").write_bytes(good.read_bytes() + b"PK\x03\x04" + bytes([index]) * 64)


def empty(path: Path, good: Path, index: int) -> None:
    """Nothing in it."""
    path.with_suffix(".onnx").write_bytes(b"")


def pointer(path: Path, good: Path, index: int) -> None:
    """A Git LFS pointer where the model should be."""
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{index:064d}\nsize 9\n"
    path.with_suffix(".onnx").write_text(text)


class _Run:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


def pickled(path: Path, good: Path, index: int) -> None:
    """A pickle that runs a program when it is opened."""
    path.with_suffix(".pt").write_bytes(pickle.dumps([index, _Run()]))


def traversal(path: Path, good: Path, index: int) -> None:
    """External data outside the folder."""
    import onnx

    model = onnx.load(good)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", f"../../../../etc/passwd{index}"
    path.with_suffix(".onnx").write_bytes(model.SerializeToString())


def foreign(path: Path, good: Path, index: int) -> None:
    """An operator that runs Python."""
    import onnx

    model = onnx.load(good)
    node = model.graph.node.add()
    node.op_type, node.domain, node.name = "PythonOp", "com.microsoft", f"p{index}"
    node.input.append(model.graph.node[0].input[0])
    node.output.append("nowhere")
    path.with_suffix(".onnx").write_bytes(model.SerializeToString())


HOSTILE = (truncated, appended, pickled, traversal, empty, foreign, pointer)
