"""Damaged ONNX files: described or refused in one sentence, never a traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from auditor.artifacts.onnx import OnnxArtifact
from auditor.errors import AuditError
from auditor.twin.interface import NoTwin
from tests.twin.onnx.graphs import graph

R = np.random.default_rng(17)
node = helper.make_node


def rich() -> bytes:
    """A model with something of everything the reader looks at."""
    opsets = [helper.make_opsetid("", 17)]
    body = [node("Relu", ["a"], ["o"])]
    function = helper.make_function("local", "F", ["a"], ["o"], body, opsets)
    info = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    then = helper.make_graph([node("Neg", ["h"], ["o"])], "t", [], [info])
    other = helper.make_graph([node("Abs", ["h"], ["o"])], "e", [], [info])
    value = numpy_helper.from_array(R.normal(size=(6, 4)).astype(np.float32))
    nodes = [
        node("Conv", ["x", "cw"], ["c"], pads=[1] * 4),
        node("F", ["c"], ["f"], domain="local"),
        node("GlobalAveragePool", ["f"], ["g"]),
        node("Reshape", ["g", "s"], ["r"]),
        node("Constant", [], ["w"], value=value),
        node("ConstantOfShape", ["n"], ["b"]),
        node("Gemm", ["r", "w", "b"], ["h"]),
        node("If", ["yes"], ["z"], then_branch=then, else_branch=other),
        node("Softmax", ["z"], ["y"]),
    ]
    constants = {
        "cw": R.normal(size=(6, 1, 3, 3)).astype(np.float32),
        "s": np.array([0, -1]),
        "n": np.array([4]),
        "yes": np.array(True),
    }
    proto = graph(nodes, ["N", 1, 8, 8], ["y"], constants, 17, functions=[function])
    proto.producer_name = "made"
    return proto.SerializeToString()


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Bits flipped, a piece removed, repeated or moved, or small integers made extreme."""
    out = bytearray(data)
    how = random.integers(4)
    at, size = int(random.integers(len(out))), int(random.integers(1, 40))
    if how == 0:
        for _ in range(int(random.integers(1, 6))):
            out[int(random.integers(len(out)))] ^= 1 << int(random.integers(8))
    elif how == 1:
        del out[at : at + size]
    elif how == 2:
        out[at:at] = out[int(random.integers(len(out))) :][:size]
    else:
        out[at] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF]))
    return bytes(out)


def survives(path: Path, data: bytes) -> bool:
    """True when the file could be described; refusals must be our own and one line."""
    path.write_bytes(data)
    artifact = OnnxArtifact(path)
    try:
        described = artifact.describe()
        assert described.parameters >= 0
        artifact.open_twin()
    except (AuditError, NoTwin) as error:
        assert "\n" not in str(error)
        return not isinstance(error, AuditError)
    return True


def fuzz(tmp_path: Path, count: int) -> None:
    data, described = rich(), 0
    assert onnx.load_from_string(data).graph.node
    for seed in range(count):
        changed = mutated(data, np.random.default_rng(seed))
        try:
            described += survives(tmp_path / "m.onnx", changed)
        except Exception as error:
            pytest.fail(f"seed {seed}: {type(error).__name__}: {error}")
    assert 0 < described < count


def test_two_hundred_damaged_files(tmp_path: Path) -> None:
    fuzz(tmp_path, 200)


@pytest.mark.slow
def test_two_thousand_damaged_files(tmp_path: Path) -> None:
    fuzz(tmp_path, 2000)
