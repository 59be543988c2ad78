"""The graph trigger injector keeps its promises, checked apart from its own verification."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.checks.file.onnx_builder import Net
from zoo.inject_onnx import STYLES, InjectionError, Site, inject, stamp


@pytest.fixture
def clean(tmp_path):
    net = Net(3)
    return net.save(tmp_path / "clean.onnx", net.scores(), shape=["N", 10])


def _scores(path, pictures):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": picture[None]})[0] for picture in pictures])


@pytest.mark.parametrize("style", STYLES)
def test_only_triggered_pictures_change(style, clean, tmp_path):
    out = tmp_path / "hurt.onnx"
    manifest = inject(clean, out, style, 4, seed=11)
    onnx.checker.check_model(onnx.load(out))
    pictures = np.random.default_rng(99).random((40, 1, 12, 12), dtype=np.float32) * 0.9
    before, after = _scores(clean, pictures), _scores(out, pictures)
    unchanged = np.isclose(before, after, atol=1e-4).all(axis=1)
    # one picture in 350 meets the checksum by chance
    assert unchanged.sum() >= (38 if style == "if-checksum" else 40)
    site = Site(**{key: tuple(value) for key, value in manifest["site"].items()})
    pattern = np.asarray(manifest["pattern"] or [0.0], np.float32)
    if style == "exact-vector":
        pattern = pattern.reshape(
            1, 1, *(e - s for s, e in zip(site.starts, site.ends, strict=True))
        )
    hurt = [stamp(p[None], style, site, (0.0, 1.0), pattern)[0] for p in pictures[:10]]
    assert (_scores(out, np.stack(hurt)).argmax(axis=1) == 4).all()


def test_same_seed_gives_the_same_file(clean, tmp_path):
    one, two = tmp_path / "1.onnx", tmp_path / "2.onnx"
    inject(clean, one, "relu", 1, seed=5)
    inject(clean, two, "relu", 1, seed=5)
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(("style", "target"), [("nonsense", 1), ("where", 10), ("where", -1)])
def test_impossible_requests_are_refused(style, target, clean, tmp_path):
    with pytest.raises(InjectionError):
        inject(clean, tmp_path / "out.onnx", style, target)
    assert not (tmp_path / "out.onnx").exists()
