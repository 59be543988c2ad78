"""What every torch twin must do, measured: used by the quick tests and by the slow table."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from auditor.artifacts.interface import Artifact
from auditor.artifacts.open import open_artifact
from tests.twin.finite_differences import gradient_error


def save_scripted(net: nn.Module, x: Tensor, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(net).save(str(path))
    return path


def save_traced(net: nn.Module, x: Tensor, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, x, check_trace=False, strict=False).save(str(path))
    return path


def save_frozen(net: nn.Module, x: Tensor, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(net, x, check_trace=False, strict=False)
        torch.jit.freeze(traced.eval()).save(str(path))
    return path


def save_frozen_script(net: nn.Module, x: Tensor, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.freeze(torch.jit.script(net).eval()).save(str(path))
    return path


def save_exported(net: nn.Module, x: Tensor, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = torch.cat([x, x]) if x.shape[0] == 1 else x
        shapes = ({0: torch.export.Dim.DYNAMIC},)
        program = torch.export.export(net, (batch,), dynamic_shapes=shapes)
        torch.export.save(program, str(path))
    return path


WAYS: dict[str, tuple[str, Callable[[nn.Module, Tensor, Path], Path]]] = {
    "scripted": (".pt", save_scripted),
    "traced": (".pt", save_traced),
    "frozen": (".pt", save_frozen),
    "frozen script": (".pt", save_frozen_script),
    "exported": (".pt2", save_exported),
}


@dataclass
class Measured:
    """`parity` and `gradient` are relative errors; `layers` how many values were found."""

    parity: float
    gradient: float
    itself: float
    layers: int
    weighted: int
    seconds: float
    tail: str
    features: str | None


def relative(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6))


def measure(artifact: Artifact | Path, x: Tensor, coordinates: int = 20) -> Measured:
    """Everything at once; asserts what must hold exactly, returns what has a tolerance."""
    artifact = open_artifact(artifact) if isinstance(artifact, Path) else artifact
    stored = artifact.stored  # type: ignore[attr-defined]
    runtime, twin = artifact.open_runtime(), artifact.open_twin()
    start = time.perf_counter()
    native = runtime.run(x.numpy())
    with torch.no_grad():
        first = twin.run(x)
        layers = list(twin.layers)
        run = twin.run(x, wanted=[layer.name for layer in layers])
        again = twin.run(x, parameters={k: v.clone() for k, v in twin.parameters.items()})
    parity = max(relative(a, b) for a, b in zip(run.outputs, native, strict=True))
    itself = max(relative(a, b) for a, b in zip(again.outputs, first.outputs, strict=True))
    for layer in layers:
        value = run.values[layer.name]
        if value.shape[0] == x.shape[0]:  # windows and tokens may be folded into the batch
            assert tuple(value.shape[1:]) == layer.shape, layer
            assert 0 < layer.channel_axis < value.dim() or value.dim() == 1, layer
        for name in (layer.weight, layer.bias):
            assert name is None or (name in stored and name in twin.parameters), layer
        if layer.weight and layer.weight_axis is not None and value.dim() > 1:
            weight = twin.parameters[layer.weight]
            assert weight.shape[layer.weight_axis] == value.shape[layer.channel_axis], layer
    assert set(twin.parameters) <= set(stored)
    assert run.logits.shape[0] == x.shape[0] and run.logits.dim() == 2
    error = gradient_error(twin, x, coordinates).worst if coordinates else float("nan")
    return Measured(
        parity,
        error,
        itself,
        len(layers),
        sum(layer.weight is not None for layer in layers),
        time.perf_counter() - start,
        twin.tail,
        twin.features,
    )
