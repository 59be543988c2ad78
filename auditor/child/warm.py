"""Imported by a zygote before it forks: everything an audit would otherwise import each time.

Beyond the imports, the file checks run once over a tiny network of our own making, so that what
libraries set up on first use (operator schemas, caches) is there too. No model of anybody's is
read, and no runtime is started: a runtime has threads, and a process with threads must not fork.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from auditor.artifacts import exported, torchscript
from auditor.artifacts.onnx import OnnxArtifact
from auditor.checks.interface import Budget, FileCheck, FileContext
from auditor.checks.registry import all_checks
from auditor.checks.runner import run_check
from auditor.checks.wire import to_wire
from auditor.child import file_audit

READERS = (OnnxArtifact, torchscript.TorchScriptArtifact, exported.ExportedArtifact)


def rehearse() -> None:
    """Describe and check our own network once. What goes wrong will go wrong again, in a child."""
    with contextlib.suppress(Exception), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rehearsal.onnx"
        path.write_bytes(_network())
        artifact = OnnxArtifact(path)
        file_audit.description_to_wire(artifact.describe())
        for registered in all_checks()[0]:
            if issubclass(registered.check, FileCheck):
                to_wire(run_check(registered.check(), FileContext(artifact, Budget(5.0))))


def _network() -> bytes:
    """One convolution and one dense layer."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(2, 1, 3, 3)).astype(np.float32)
    dense = rng.normal(size=(72, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "d"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rehearsal",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(kernel, "k"), numpy_helper.from_array(dense, "d")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(onnx.ModelProto.SerializeToString(model))


rehearse()
