"""Put changed parameters back into the bytes of a torch archive (TorchScript or .pt2).

Only storage bytes change: the code, the attributes and every header stay, so a sanitized model is
the supplier's file with other numbers in it. Nothing is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from auditor.artifacts.torch_archive import TorchArchive
from auditor.artifacts.torch_tensors import StoredTensor, tensors
from auditor.artifacts.zip_surgery import copy_archive
from auditor.errors import UnreadableArtifact

PROVENANCE = "extra/audit_provenance"


def write_archive(
    archive: TorchArchive,
    source: Path,
    target: Path,
    changes: Mapping[str, NDArray[Any]],
    provenance: Mapping[str, str],
) -> None:
    """Copy `source` to `target` with `changes` in its storages and `provenance` as a new member.

    Parameters that share a storage are written into the same bytes, later names winning where they
    overlap. torch reads the new member through ``_extra_files``. Raises `KeyError` for an unknown
    name, `ValueError` for a wrong shape, `UnreadableArtifact` for storages that are compressed.
    """
    stored = tensors(archive)
    for name, value in changes.items():
        if name not in stored:
            raise KeyError(name)
        if tuple(value.shape) != stored[name].size:
            raise ValueError(f"{name}: shape {tuple(value.shape)} is not {stored[name].size}")
    storages: dict[str, bytearray] = {}
    for name, value in changes.items():
        entry = stored[name]
        if entry.member not in storages:
            archive.member_data_span(entry.member)
            size = archive.members[entry.member].size
            storages[entry.member] = bytearray(archive.read(entry.member, limit=size))
        _put(storages[entry.member], entry, value, archive.byteorder)
    edits = {archive.members[name]: bytes(data) for name, data in storages.items()}
    text = json.dumps(dict(provenance), indent=1, sort_keys=True).encode()
    copy_archive(source, target, edits, {f"{archive.root}/{_free_name(archive)}": text})


def _free_name(archive: TorchArchive) -> str:
    """A member name for the provenance: a file sanitized twice keeps both entries."""
    name, number = f"{PROVENANCE}.json", 2
    while name in archive.members:
        name, number = f"{PROVENANCE}.{number}.json", number + 1
    return name


def _put(storage: bytearray, entry: StoredTensor, value: NDArray[Any], byteorder: str) -> None:
    own = {"bfloat16"} | {n for n in dir(ml_dtypes) if n.startswith("float8")}
    dtype = np.dtype(getattr(ml_dtypes, entry.dtype) if entry.dtype in own else entry.dtype)
    if byteorder == "big":
        dtype = dtype.newbyteorder(">")
    if entry.extent * dtype.itemsize > len(storage):
        raise UnreadableArtifact(f"tensor bytes {entry.member!r} are too short")
    flat = np.frombuffer(storage, np.uint8, len(storage) // dtype.itemsize * dtype.itemsize)
    strides = [step * dtype.itemsize for step in entry.stride]
    start = flat.view(dtype)[entry.offset :]
    view = np.lib.stride_tricks.as_strided(start, entry.size, strides)
    view[...] = np.asarray(value).astype(dtype)
