"""Silent channels go, answers stay; channels that are not silent, or that branch, stay too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from auditor.sanitize.slim import CannotSlim, slim_file
from tests.sanitize.test_graph_cut import answers, host


def _edit(path: Path, name: str, value: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(model, path)


def _silence(path: Path, channels: list[int], *, bias: bool = True) -> None:
    stored = {t.name: numpy_helper.to_array(t).copy() for t in onnx.load(path).graph.initializer}
    stored["w1"][channels] = 0
    _edit(path, "w1", stored["w1"])
    if bias:
        stored["b1"][channels] = 0
        _edit(path, "b1", stored["b1"])


def test_silent_channels_are_removed_with_the_columns_that_read_them(tmp_path: Path) -> None:
    path = host(tmp_path)
    _silence(path, [1, 3])
    whole = path.read_bytes()
    saved = slim_file(path)
    assert saved["slim.channels"] == 2
    assert saved["slim.bytes"] < saved["slim.bytes_before"]
    onnx.checker.check_model(str(path), full_check=True)
    shapes = {t.name: tuple(t.dims) for t in onnx.load(path).graph.initializer}
    assert shapes["w1"] == (2, 1, 3, 3)
    assert shapes["w2"] == (5, 288)
    picture = np.random.default_rng(0).random((3, 1, 12, 12), np.float32)
    np.testing.assert_allclose(
        answers(path.read_bytes(), picture, optimised=False),
        answers(whole, picture, optimised=False),
        atol=1e-5,
    )


def test_a_channel_with_a_bias_is_not_silent(tmp_path: Path) -> None:
    path = host(tmp_path)
    _silence(path, [1, 3], bias=False)
    before = path.read_bytes()
    with pytest.raises(CannotSlim, match="silent"):
        slim_file(path)
    assert path.read_bytes() == before


def test_a_channel_that_two_nodes_read_stays(tmp_path: Path) -> None:
    path = host(tmp_path)
    _silence(path, [1])
    model = onnx.load(path)
    extra = onnx.helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, ["n", 4, 12, 12])
    model.graph.output.append(extra)
    onnx.save(model, path)
    with pytest.raises(CannotSlim):
        slim_file(path)
