"""Tiny artifacts of our own making, each with content of its own."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def network(seed: int = 0, classes: int = 3) -> onnx.ModelProto:
    """Flatten and one dense layer: [N, 1, 4, 4] -> [N, classes]."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(16, classes)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("MatMul", ["f", "w"], ["y"]),
        ],
        f"net{seed}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="tests"
    )


def write(path: Path, seed: int = 0) -> Path:
    """A clean model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(network(seed).SerializeToString())
    return path


def write_external(path: Path, seed: int = 0, data: str = "weights.bin") -> Path:
    """A model whose weight lies in a file beside it."""
    model = network(seed)
    tensor = model.graph.initializer[0]
    (path.parent / data).write_bytes(tensor.raw_data)
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", data), ("offset", "0"), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    return path


def write_hostile(path: Path, seed: int = 0) -> Path:
    """A model that names a file outside its folder as external data: critical."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = network(seed)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"
    path.write_bytes(model.SerializeToString())
    return path


def by_name(index):
    """The index's entries by file name."""
    return {Path(m["model"]).name: m for m in index["models"]}


def events(log, name):
    """The log's lines of one kind."""
    return [line for line in log() if line["event"] == name]
