"""Write a data set again without some of its samples, in the layout it came in.

Everything goes into a temporary folder beside the goal, which is renamed at the end: the goal is
there whole or not at all, and the source is only ever read.
"""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auditor.errors import UsageError
from auditor.samples import idx
from auditor.samples.ordered import Ordered


def write_clean(data: Ordered, kept: NDArray[np.bool_], folder: Path) -> Path:
    """Write the samples of `data` where `kept` (N,) into `folder`; returns the set's new path.

    npz: same arrays, those with one entry a sample cut. IDX: same file names, the other split
    copied. Class folders and .tar: the kept files byte for byte, all other files too, undecodable
    images left out. Sets without files of their own (digits, torchvision) become ``.npz``. Raises
    `UsageError` when `folder` exists and is not empty, lies within the source, or cannot be
    written.
    """
    _refuse(data, folder)
    try:
        partial = _room(folder)
        try:
            name = _WRITERS[data.kind](data, kept, partial)
            partial.chmod(0o755)
            if folder.exists():
                folder.rmdir()
            partial.replace(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder / name if name else folder


def _refuse(data: Ordered, folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--write-clean {folder} exists and is not an empty folder")
    if data.path is None:
        return
    source, goal = data.path.resolve(), folder.resolve()
    if goal == source or (source.is_dir() and goal.is_relative_to(source)):
        raise UsageError(f"--write-clean {folder} must lie outside the training data")


def check_goal(data: Ordered, folder: Path) -> None:
    """Raise what `write_clean` would, before minutes of work."""
    _refuse(data, folder)
    try:
        _room(folder).rmdir()
    except OSError as error:
        raise _unwritable(folder, error) from error


def _room(folder: Path) -> Path:
    """A new empty folder beside `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))


def _unwritable(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"--write-clean {folder} cannot be written: {error.strerror}")


def _npz(data: Ordered, kept: NDArray[np.bool_], folder: Path) -> str:
    assert data.path is not None
    with np.load(data.path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    cut = {
        name: array[kept] if array.ndim and len(array) == len(kept) else array
        for name, array in arrays.items()
    }
    np.savez_compressed(folder / data.path.name, **cut)
    return data.path.name


def _memory(data: Ordered, kept: NDArray[np.bool_], folder: Path) -> str:
    name = data.source.split(" ")[0] + ".npz"
    pixels = np.asarray(data.pixels[kept])
    np.savez_compressed(
        folder / name, x=pixels, y=data.labels[kept], classes=np.array(data.classes or ("",))
    )
    return name


def _idx(data: Ordered, kept: NDArray[np.bool_], folder: Path) -> str:
    assert data.path is not None
    prefix = "train" if data.split == "train" else "t10k"
    images, labels = (idx.find(data.path, prefix, kind) for kind in ("images", "labels"))
    for other in data.path.iterdir():
        if other.is_file() and other not in (images, labels):
            shutil.copyfile(other, folder / other.name)
    _write_idx(folder / images.name, np.asarray(data.pixels[kept])[:, 0])
    _write_idx(folder / labels.name, data.labels[kept].astype(np.uint8))
    return ""


def _write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    body = head + np.ascontiguousarray(array).tobytes()
    path.write_bytes(gzip.compress(body, 6, mtime=0) if path.suffix == ".gz" else body)


def _left_out(data: Ordered, kept: NDArray[np.bool_]) -> set[str]:
    gone = {name for name, keep in zip(data.names, kept, strict=True) if not keep}
    return gone | set(data.unreadable)


def _folder(data: Ordered, kept: NDArray[np.bool_], folder: Path) -> str:
    assert data.path is not None
    gone = _left_out(data, kept)
    for entry in sorted(data.path.rglob("*")):
        relative = entry.relative_to(data.path)
        if entry.is_dir():
            (folder / relative).mkdir(parents=True, exist_ok=True)
        elif entry.is_file() and relative.as_posix() not in gone:
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(entry, folder / relative)
    return ""


def _tar(data: Ordered, kept: NDArray[np.bool_], folder: Path) -> str:
    assert data.path is not None
    gone = _left_out(data, kept)
    name = data.path.name
    mode = "w:gz" if name.endswith((".gz", ".tgz")) else "w"
    with (
        tarfile.open(data.path) as old,
        tarfile.open(folder / name, mode) as new,  # type: ignore[call-overload]
    ):
        for member in old.getmembers():
            if member.name in gone or not (member.isfile() or member.isdir()):
                continue
            stream = old.extractfile(member) if member.isfile() else None
            new.addfile(member, io.BytesIO(stream.read()) if stream else None)
    return name


_WRITERS = {"npz": _npz, "idx": _idx, "folder": _folder, "tar": _tar, "memory": _memory}
