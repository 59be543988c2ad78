"""Read labelled images from what users have: a folder per class, .npz, IDX, .tar, or a named set.

``read_samples`` is the one entry; each kind of source is a file of its own under this package.
Nothing here knows a model. Every problem is an `UnreadableSamples` with one sentence.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import UnreadableSamples, UsageError
from auditor.samples.interface import Images

NAMED = ("digits", "mnist", "fashion-mnist", "cifar10")


@dataclass(frozen=True, slots=True)
class Request:
    """How much of a source is wanted. `size` (H, W) is used only where images differ in size."""

    split: str = "test"
    limit: int | None = None
    seed: int = 0
    size: tuple[int, int] | None = None
    download: bool = False


def default_root() -> Path:
    """Where named data sets are looked up: ``AUDITOR_DATA``, else the user's cache folder."""
    named = os.environ.get("AUDITOR_DATA")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "auditor"


def read_samples(
    source: str | Path,
    *,
    root: Path | None = None,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    download: bool = False,
) -> Images:
    """Labelled images from `source`: a path, or one of `NAMED` looked up under `root`.

    At most `limit` samples are kept, balanced over the labels and chosen with `seed`. Raises
    `UnreadableSamples` when the data cannot be read, `UsageError` for an unknown `split`.
    """
    if split not in {"train", "test"}:
        raise UsageError(f"--split must be train or test, not {split!r}")
    request = Request(split, limit, seed, size, download)
    name = str(source)
    if name in NAMED:
        images = _read_named(name, root or default_root(), request)
    else:
        images = _read_path(Path(source), request)
    if len(images) == 0:
        raise UnreadableSamples(f"{images.source} holds no labelled images")
    return images.shuffled(seed, limit)


def _read_path(path: Path, request: Request) -> Images:
    if not path.exists():
        names = ", ".join(NAMED)
        raise UnreadableSamples(
            f"sample data {str(path)!r} does not exist: give a folder with one sub-folder per "
            f"class, an .npz with x and y, an IDX folder, or one of {names}"
        )
    return _reader_for(path)(path, request)


def _reader_for(path: Path) -> Callable[[Path, Request], Images]:
    from auditor.samples import folders, idx, npz

    if path.is_dir():
        return idx.read if idx.is_idx_folder(path) else folders.read_folder
    if npz.is_npz(path):
        return npz.read
    if folders.is_tar(path):
        return folders.read_tar
    if path.is_file() and path.stat().st_size == 0:
        raise UnreadableSamples(f"sample data {path.name!r} is an empty file")
    raise UnreadableSamples(
        f"sample data {path.name!r} is not understood: give a folder with one sub-folder per "
        "class, a .tar of such a folder, an .npz with x and y, or a folder of IDX files"
    )


def _read_named(name: str, root: Path, request: Request) -> Images:
    if name == "digits":
        from auditor.samples import bundled

        return bundled.read_digits(request)
    for candidate in _local_candidates(name, root):
        return _read_path(candidate, request)
    from auditor.samples import bundled

    return bundled.read_torchvision(name, root, request)


def _local_candidates(name: str, root: Path) -> list[Path]:
    """Entries of `root` whose name is or begins with `name`, exact matches first."""
    if not root.is_dir():
        return []
    found = [
        entry
        for entry in sorted(root.iterdir(), key=lambda e: (len(e.name), e.name))
        if entry.name.lower().startswith(name)
        and (entry.is_dir() or entry.name.lower().endswith((".tar", ".tar.gz", ".tgz")))
    ]
    # torchvision keeps its own sub-folders under such a name; that layout is read by torchvision.
    return [entry for entry in found if entry.is_file() or not _is_torchvision_layout(entry)]


def _is_torchvision_layout(folder: Path) -> bool:
    return (folder / "raw").is_dir() or folder.name == "cifar-10-batches-py"
