"""Readers: every source gives 0..1 images in one form, every mistake one sentence."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from auditor.errors import UnreadableSamples, UsageError
from auditor.samples.npz import from_arrays
from auditor.samples.readers import read_samples


def write_folder(root: Path, classes: tuple[str, ...], per_class: int = 3, size: int = 6) -> Path:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            pixels = np.full((size, size), label * 10 + index, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def write_idx(root: Path, prefix: str, count: int, labels: int | None = None) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    images = struct.pack(">HBBIII", 0, 8, 3, count, 4, 4) + bytes(range(16)) * count
    named = labels if labels is not None else count
    marks = struct.pack(">HBBI", 0, 8, 1, named) + bytes(i % 3 for i in range(named))
    (root / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (root / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(marks))
    return root


def test_digits_are_bundled_and_split() -> None:
    test, train = read_samples("digits"), read_samples("digits", split="train")
    assert test.pixels.shape == (360, 1, 8, 8)
    assert len(train) == 1437
    assert test.pixels.dtype == np.float32
    assert 0 <= test.pixels.min() <= test.pixels.max() <= 1


def test_folder_per_class_sorts_numbers_as_numbers(tmp_path: Path) -> None:
    write_folder(tmp_path, ("2", "10", "1"))
    images = read_samples(tmp_path)
    assert images.classes[1:3] == ("1", "2")
    assert sorted(set(images.labels)) == [1, 2, 10]


def test_folder_with_train_and_test_reads_the_wanted_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", ("cat", "dog"), per_class=4)
    write_folder(tmp_path / "test", ("cat", "dog"), per_class=2)
    assert len(read_samples(tmp_path)) == 4
    assert len(read_samples(tmp_path, split="train")) == 8


def test_tar_of_a_folder_reads_like_the_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", ("a", "b"))
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "data", arcname="data")
    folder, tar = read_samples(tmp_path / "data"), read_samples(tmp_path / "data.tar")
    np.testing.assert_array_equal(np.sort(folder.labels), np.sort(tar.labels))
    assert folder.pixels.sum() == pytest.approx(tar.pixels.sum())


def test_idx_folder_and_named_root(tmp_path: Path) -> None:
    write_idx(tmp_path / "mnist", "t10k", 7)
    direct, named = read_samples(tmp_path / "mnist"), read_samples("mnist", root=tmp_path)
    assert len(direct) == len(named) == 7
    assert direct.pixels.shape[1:] == (1, 4, 4)


def test_npz_scales_and_layouts_are_understood(tmp_path: Path) -> None:
    grey = np.arange(2 * 16, dtype=np.uint8).reshape(2, 4, 4)
    np.savez(tmp_path / "s.npz", x=grey, y=[0, 1])
    images = read_samples(tmp_path / "s.npz", seed=0)
    assert images.pixels.shape == (2, 1, 4, 4)
    assert images.pixels.max() == pytest.approx(31 / 255)


def test_normalised_floats_keep_their_range() -> None:
    x = np.linspace(-1, 3, 32, dtype=np.float32).reshape(2, 1, 4, 4)
    images = from_arrays(x, np.array([0, 1]), "x")
    assert images.stored_range == (-1.0, 3.0)
    assert images.pixels.min() == 0
    assert images.pixels.max() == 1


def test_limit_keeps_classes_balanced() -> None:
    few = read_samples("digits", limit=50)
    assert np.bincount(few.labels).tolist() == [5] * 10


def test_same_seed_same_samples_and_another_seed_others() -> None:
    first, again, other = (read_samples("digits", limit=30, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "missing", "does not exist"),
        (lambda p: p, "no images"),
        (lambda p: _write(p / "x.txt", b"hello"), "not understood"),
        (lambda p: _npz(p, x=np.zeros((3, 4, 4)), y=np.zeros(2)), "3 images but 2 labels"),
        (lambda p: _npz(p, a=np.zeros(3)), "must hold arrays x and y"),
        (lambda p: _npz(p, x=np.zeros((2, 4, 4)), y=np.array([0.5, 1])), "whole numbers"),
        (lambda p: _npz(p, x=np.full((2, 4, 4), np.nan), y=np.zeros(2)), "NaN"),
        (lambda p: _npz(p, x=np.zeros((2, 5)), y=np.zeros(2)), "have shape"),
        (lambda p: _npz(p, x=np.array([{}, {}]), y=np.zeros(2)), "cannot be read"),
        (lambda p: write_idx(p / "i", "t10k", 5, labels=4), "5 images but 4 labels"),
        (lambda p: _write(p / "c" / "x.png", b"\x89PNG broken").parent.parent, "cannot be decoded"),
        (lambda p: _write(p / "x.png", _png(np.zeros((3, 3), np.uint8))).parent, "outside class"),
    ],
)
def test_every_mistake_is_one_sentence(tmp_path: Path, make: object, words: str) -> None:
    with pytest.raises(UnreadableSamples, match=words) as caught:
        read_samples(make(tmp_path))  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_images_of_different_sizes_need_a_size(tmp_path: Path) -> None:
    write_folder(tmp_path, ("a",), size=6)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a" / "big.png")
    with pytest.raises(UnreadableSamples, match="--size"):
        read_samples(tmp_path)
    assert read_samples(tmp_path, size=(6, 6)).pixels.shape[2:] == (6, 6)


def test_truncated_idx_is_one_sentence(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "i", "t10k", 5)
    whole = (folder / "t10k-images-idx3-ubyte.gz").read_bytes()
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableSamples):
        read_samples(folder)


def test_named_set_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSamples, match="AUDITOR_DATA"):
        read_samples("mnist", root=tmp_path)


def test_unknown_split_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--split"):
        read_samples("digits", split="both")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=0, max_size=5),
    st.sampled_from(["uint8", "float32", "int64", "bool"]),
)
def test_any_array_is_read_or_refused_in_words(shape: list[int], dtype: str) -> None:
    x = np.ones(shape, dtype)
    y = np.zeros(shape[:1] or [1], int)
    try:
        images = from_arrays(x, y, "x")
    except UnreadableSamples:
        return
    assert images.pixels.ndim == 4
    assert images.pixels.shape[1] in (1, 3)


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _npz(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "s.npz", **arrays)
    return folder / "s.npz"
