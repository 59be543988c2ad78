"""A whole set in its own order, and written back without some samples in its own layout."""

from __future__ import annotations

import gzip
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from auditor.errors import UnreadableSamples, UsageError
from auditor.samples.cleaned import write_clean
from auditor.samples.ordered import Ordered, read_ordered


def pixels(count: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)


def labels(count: int = 12) -> np.ndarray:
    return (np.arange(count) % 3).astype(np.int64)


def npz(folder: Path) -> Path:
    path = folder / "set.npz"
    np.savez(path, x=pixels(), y=labels(), note=np.array([7.0]))
    return path


def idx(folder: Path) -> Path:
    root = folder / "idx"
    root.mkdir()
    for prefix in ("train", "t10k"):
        head = struct.pack(">HBB3I", 0, 8, 3, 12, 8, 8)
        (root / f"{prefix}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(head + pixels().tobytes())
        )
        head = struct.pack(">HBBI", 0, 8, 1, 12)
        (root / f"{prefix}-labels-idx1-ubyte").write_bytes(
            head + labels().astype(np.uint8).tobytes()
        )
    return root


def folder_of(folder: Path) -> Path:
    root = folder / "images"
    for number, (image, label) in enumerate(zip(pixels(), labels(), strict=True)):
        place = root / "train" / f"c{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:02}.png")
    (root / "LICENSE").write_text("free")
    return root


def tar_of(folder: Path) -> Path:
    path = folder / "set.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder_of(folder), "images")
    return path


MAKERS = {"npz": npz, "idx": idx, "folder": folder_of, "tar": tar_of}


def snapshot(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p): p.read_bytes() for p in files}


@pytest.mark.parametrize("kind", MAKERS)
def test_the_cleaned_set_has_the_layout_and_all_kept_samples_in_order(
    tmp_path: Path, kind: str
) -> None:
    source = MAKERS[kind](tmp_path)
    before = snapshot(source)
    data = read_ordered(source)
    assert (data.kind, len(data), data.pixels.dtype) == (kind, 12, np.uint8)
    kept = np.ones(12, bool)
    kept[[2, 5]] = False
    written = write_clean(data, kept, tmp_path / "clean")
    again = read_ordered(written)
    assert again.kind == kind
    np.testing.assert_array_equal(again.pixels, data.pixels[kept])
    np.testing.assert_array_equal(again.labels, data.labels[kept])
    assert snapshot(source) == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_npz_keeps_other_arrays_and_idx_the_other_split(tmp_path: Path) -> None:
    data = read_ordered(npz(tmp_path))
    written = write_clean(data, np.arange(12) > 5, tmp_path / "a")
    with np.load(written) as archive:
        assert archive["note"].tolist() == [7.0]
    data = read_ordered(idx(tmp_path))
    write_clean(data, np.arange(12) > 5, tmp_path / "b")
    assert len(read_ordered(tmp_path / "b", split="test")) == 12


def test_digits_become_npz(tmp_path: Path) -> None:
    data = read_ordered("digits")
    kept = np.ones(len(data), bool)
    kept[0] = False
    again = read_ordered(write_clean(data, kept, tmp_path / "clean"))
    assert len(again) == len(data) - 1
    assert again.classes == data.classes


def test_undecodable_images_are_named_and_left_out(tmp_path: Path) -> None:
    root = folder_of(tmp_path)
    (root / "train" / "c1" / "99.png").write_bytes(b"nonsense")
    data = read_ordered(root)
    assert data.unreadable == ("train/c1/99.png",)
    assert "cannot be decoded" in data.notices[0]
    write_clean(data, np.ones(len(data), bool), tmp_path / "clean")
    assert not (tmp_path / "clean" / "train" / "c1" / "99.png").exists()
    assert (tmp_path / "clean" / "LICENSE").read_text() == "free"


def test_mixed_sizes_need_a_size_and_are_resized_with_one(tmp_path: Path) -> None:
    root = folder_of(tmp_path)
    Image.new("L", (9, 9)).save(root / "train" / "c0" / "odd.png")
    with pytest.raises(UnreadableSamples, match="--size"):
        read_ordered(root)
    assert read_ordered(root, size=(8, 8)).pixels.shape == (13, 1, 8, 8)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": pixels(), "y": labels()[:-1]}, "12 images but 11 labels"),
        ({"x": pixels(), "y": labels() + 0.5}, "whole numbers"),
        ({"x": pixels(), "y": -labels() - 1}, "whole numbers"),
        ({"x": pixels()[:0], "y": labels()[:0]}, "no labelled images"),
        ({"pictures": pixels()}, "must hold arrays x and y"),
    ],
)
def test_wrong_labels_and_files_are_one_sentence(
    tmp_path: Path, arrays: dict[str, np.ndarray], words: str
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UnreadableSamples, match=words):
        read_ordered(tmp_path / "bad.npz")


def test_label_files_of_another_length_are_one_sentence(tmp_path: Path) -> None:
    root = idx(tmp_path)
    head = struct.pack(">HBBI", 0, 8, 1, 5)
    (root / "train-labels-idx1-ubyte").write_bytes(head + bytes(5))
    with pytest.raises(UnreadableSamples, match="12 images but 5 labels"):
        read_ordered(root)


def test_goals_that_would_harm_are_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path)
    data: Ordered = read_ordered(root)
    every = np.ones(len(data), bool)
    with pytest.raises(UsageError, match="outside"):
        write_clean(data, every, root / "clean")
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").write_text("x")
    with pytest.raises(UsageError, match="not an empty folder"):
        write_clean(data, every, full)
    assert (full / "x").read_text() == "x"
