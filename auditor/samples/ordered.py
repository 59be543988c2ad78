"""A whole data set in its own order, compact, with the way back to its files.

`read_samples` shuffles and takes a few; an audit of the data itself needs every sample under its
own index, and must be able to write the set back without some of them (`auditor.samples.cleaned`).
"""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.errors import UnreadableSamples, UsageError
from auditor.samples import bundled, folders, idx, npz
from auditor.samples.interface import Images
from auditor.samples.readers import NAMED, Request, _local_candidates, default_root

Kind = str
"""``npz``, ``idx``, ``folder``, ``tar``, or ``memory`` for sets without files of their own."""

MOST_BYTES = 2 * 2**30
"""Pixels held at most, as stored (uint8: one byte each)."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """`pixels` (N, C, H, W) uint8 (0..255) or float32 (0..1); `labels` int64 (N,).

    `names` (N,) are file names within the set where it has files, else empty; `unreadable` are
    files that could not be decoded and have no index. `path` is where it lies (None: in memory).
    """

    pixels: NDArray[Any]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    source: str
    kind: Kind
    path: Path | None
    split: str = "train"
    names: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    stored_range: tuple[float, float] | None = None
    notices: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, index: NDArray[np.int64]) -> Images:
        """The samples at `index` as float images."""
        chosen = self.pixels[index]
        if chosen.dtype == np.uint8:
            chosen = chosen.astype(np.float32) / np.float32(255)
        return Images(chosen, self.labels[index], self.source, self.classes, self.stored_range)


def read_ordered(
    source: str | Path,
    *,
    root: Path | None = None,
    split: str = "train",
    size: tuple[int, int] | None = None,
    download: bool = False,
) -> Ordered:
    """All of `source` (what ``--data`` takes) in its own order.

    Raises `UnreadableSamples` when it cannot be read, is empty or too large for memory.
    """
    if split not in {"train", "test"}:
        raise UsageError(f"--split must be train or test, not {split!r}")
    request = Request(split, None, 0, size, download)
    name = str(source)
    if name in NAMED:
        found = _named(name, root or default_root(), request)
    else:
        found = _path(Path(source), request)
    if len(found) == 0:
        raise UnreadableSamples(f"{found.source} holds no labelled images")
    if found.pixels.nbytes > MOST_BYTES:
        raise UnreadableSamples(
            f"{found.source} holds {found.pixels.nbytes / 2**30:.1f} GiB of pixels; "
            f"at most {MOST_BYTES / 2**30:.0f} GiB can be audited at once: give a part of it"
        )
    return found


def _named(name: str, root: Path, request: Request) -> Ordered:
    if name == "digits":
        return _in_memory(bundled.read_digits(request), request)
    for candidate in _local_candidates(name, root):
        return _path(candidate, request)
    # Torchvision's readers shuffle; positions in a fixed seed's order are still stable.
    return _in_memory(bundled.read_torchvision(name, root, request), request)


def _in_memory(images: Images, request: Request) -> Ordered:
    return Ordered(
        images.pixels,
        images.labels,
        images.classes,
        images.source,
        "memory",
        None,
        request.split,
        stored_range=images.stored_range,
    )


def _path(path: Path, request: Request) -> Ordered:
    if not path.exists():
        raise UnreadableSamples(
            f"training data {str(path)!r} does not exist: give a folder with one sub-folder per "
            f"class, an .npz with x and y, an IDX folder, a .tar, or one of {', '.join(NAMED)}"
        )
    if path.is_dir():
        return _idx(path, request) if idx.is_idx_folder(path) else _folder(path, request)
    if npz.is_npz(path):
        return _npz(path, request)
    if folders.is_tar(path):
        return _tar(path, request)
    raise UnreadableSamples(
        f"training data {path.name!r} is not understood: give a folder with one sub-folder per "
        "class, a .tar of such a folder, an .npz with x and y, or a folder of IDX files"
    )


def _npz(path: Path, request: Request) -> Ordered:
    images = npz.read(path, request)
    pixels: NDArray[Any] = images.pixels
    if images.stored_range is None:
        whole = np.rint(pixels * 255)
        if np.abs(pixels * 255 - whole).max(initial=0) < 1e-3:  # stored as 8 bits: keep them so
            pixels = whole.astype(np.uint8)
    return replace(_in_memory(replace(images, pixels=pixels), request), kind="npz", path=path)


def _idx(path: Path, request: Request) -> Ordered:
    pixels, labels, classes, source = idx.read_whole(path, request.split)
    return Ordered(pixels, labels, classes, source, "idx", path, request.split)


def _folder(path: Path, request: Request) -> Ordered:
    members = folders.members_of(path)
    return _images(members, lambda m: (path / m).read_bytes(), path, "folder", request)


def _tar(path: Path, request: Request) -> Ordered:
    try:
        with tarfile.open(path) as archive:
            files = folders.members_in(archive)

            def load(member: PurePosixPath) -> bytes:
                stream = archive.extractfile(files[member])
                return stream.read() if stream else b""

            return _images(sorted(files), load, path, "tar", request)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UnreadableSamples(
            f"{path.name} cannot be read as a tar of images: {error}"
        ) from error


def _images(
    members: list[PurePosixPath],
    load: Callable[[PurePosixPath], bytes],
    path: Path,
    kind: Kind,
    request: Request,
) -> Ordered:
    """Decode every member; those that cannot be decoded are named and left out."""
    if not members:
        raise UnreadableSamples(f"{path.name} holds no images: expected one sub-folder per class")
    chosen, _ = folders.only_split(members, request.split)
    classes = folders.class_names(chosen, path.name)
    order = {name: number for number, name in enumerate(classes)}
    good: list[PurePosixPath] = []
    decoded: list[NDArray[np.uint8]] = []
    broken: list[str] = []
    for member in chosen:
        try:
            decoded.append(folders.decode(member, load))
            good.append(member)
        except (UnreadableSamples, OSError):
            broken.append(str(member))
    if not good:
        raise UnreadableSamples(f"none of the {len(broken)} images in {path.name} can be decoded")
    notices: tuple[str, ...] = ()
    shapes = Counter(image.shape[:2] for image in decoded)
    if broken:
        notices = (
            f"{len(broken)} of {len(chosen)} images cannot be decoded and were left out, such as "
            f"{broken[0]}.",
        )
    if len(shapes) > 1 and request.size is not None:
        notices += (f"Images of {len(shapes)} sizes were resized to the stated size.",)
    pixels = folders.stack_uint8(decoded, path.name, request.size)
    labels = np.array([order[m.parent.name] for m in good], dtype=np.int64)
    return Ordered(
        pixels,
        labels,
        classes,
        path.name,
        kind,
        path,
        request.split,
        tuple(str(m) for m in good),
        tuple(broken),
        notices=notices,
    )
