"""Export a trained network as TorchScript and ONNX, and prove that both compute what it computes.

ONNX comes from torch's current exporter (``dynamo=True``) with a dynamic batch and the weights
inside the file. Exporter notes (stack traces with local paths) are removed: artifacts are handed
out. Writes go to a temporary name first, so that a killed run leaves no half file.
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from auditor.manifest import ArtifactRecord

OPSET = 20
TOLERANCE = 1e-5
INPUT, OUTPUT = "input", "logits"


class ExportMismatch(RuntimeError):
    """An exported file does not compute what the trained network computes."""


def export(
    network: nn.Module, samples: NDArray[np.float32], folder: Path, name: str
) -> tuple[ArtifactRecord, ...]:
    """Write ``name.onnx`` and ``name.pt`` into `folder`; both checked on `samples`.

    `samples` are network inputs (after the transform), float32 (N, C, H, W), N >= 2. Raises
    `ExportMismatch` when an output differs from the network's by more than `TOLERANCE` (relative
    to the largest logit where that is above 1).
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = network.to("cpu").eval()
    with torch.no_grad():
        expected = network(torch.from_numpy(samples)).numpy()
    example = torch.from_numpy(samples[:2])
    return (
        _onnx(network, example, samples, expected, folder / f"{name}.onnx"),
        _torchscript(network, example, samples, expected, folder / f"{name}.pt"),
    )


def run_onnx(path: Path, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of the file in plain ONNX Runtime, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: samples})
    return np.asarray(result, dtype=np.float32)


def run_torchscript(path: Path, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of the file in plain ``torch.jit``."""
    with _quiet(), torch.no_grad():
        result = torch.jit.load(str(path), map_location="cpu")(torch.from_numpy(samples))
    return np.asarray(result.numpy(), dtype=np.float32)


def digest(path: Path) -> str:
    """SHA-256 of a file, streamed."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _onnx(
    network: nn.Module,
    example: torch.Tensor,
    samples: NDArray[np.float32],
    expected: NDArray[np.float32],
    path: Path,
) -> ArtifactRecord:
    import onnx

    with _quiet():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip_notes(model)
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(partial), full_check=True)
    gap = _gap(run_onnx(partial, samples), expected, path.name)
    partial.replace(path)
    return _record(path, "onnx", gap)


def _torchscript(
    network: nn.Module,
    example: torch.Tensor,
    samples: NDArray[np.float32],
    expected: NDArray[np.float32],
    path: Path,
) -> ArtifactRecord:
    partial = path.with_name(f".{path.name}.part")
    # Through a buffer, so that the archive's inner name does not depend on the file's.
    buffer = io.BytesIO()
    with _quiet():
        torch.jit.save(torch.jit.trace(network, example), buffer)
    partial.write_bytes(buffer.getvalue())
    gap = _gap(run_torchscript(partial, samples), expected, path.name)
    partial.replace(path)
    return _record(path, "torchscript", gap)


def _gap(found: NDArray[np.float32], expected: NDArray[np.float32], name: str) -> float:
    if found.shape != expected.shape:
        raise ExportMismatch(f"{name} returns {found.shape}, the network {expected.shape}")
    gap = float(np.abs(found - expected).max())
    allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not gap <= allowed:
        raise ExportMismatch(f"{name} differs from the trained network by {gap:.2g}")
    return gap


def _record(path: Path, kind: Any, gap: float) -> ArtifactRecord:
    return ArtifactRecord(
        file=path.name,
        format=kind,
        sha256=digest(path),
        bytes=path.stat().st_size,
        max_difference=gap,
    )


def _strip_notes(model: Any) -> None:
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
        value.doc_string = ""
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporters say about themselves (TorchScript's deprecation, their logs)."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
