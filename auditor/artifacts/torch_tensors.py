"""Tensors of a torch archive: their names, places in the file and values, read without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from auditor.artifacts.torch_archive import TorchArchive
from auditor.artifacts.torch_unpickle import Call, Global, Persistent
from auditor.errors import UnreadableArtifact

Array: TypeAlias = NDArray[Any]

MAX_TENSORS = 500_000

_STORAGES: Mapping[str, str] = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
}
# torch._export.serde.schema.ScalarType
_SERDE: Mapping[int, str] = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
}


def serde_dtype(code: int) -> str:
    """Dtype name of a .pt2 scalar type code, ``unknown`` for a code that is not listed."""
    return _SERDE.get(code, "unknown")


def _numpy_dtype(name: str) -> np.dtype[Any]:
    own = {"bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"}
    return np.dtype(getattr(ml_dtypes, name) if name in own else name)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as the archive stores it. `offset`, `size`, `stride` count elements of `dtype`.

    `numel` is the storage's length in elements; `member` the archive member (relative to the root
    folder) that holds the bytes.
    """

    dtype: str
    numel: int
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    member: str

    @property
    def count(self) -> int:
        """Number of elements of the tensor."""
        return int(np.prod(self.size, dtype=object)) if self.size else 1

    @property
    def extent(self) -> int:
        """Elements of the storage the tensor reaches to (one past its last element)."""
        if 0 in self.size:
            return self.offset
        steps = zip(self.size, self.stride, strict=True)
        return self.offset + 1 + sum((n - 1) * step for n, step in steps)


_REBUILD = frozenset({"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"})
_WRAPPERS = frozenset({"_rebuild_parameter", "_rebuild_parameter_with_state"})


def as_tensor(value: Any, folder: str) -> StoredTensor | None:
    """The tensor a pickled `_rebuild_tensor*` call describes, or None. `folder` holds its bytes."""
    for _ in range(4):
        if not (isinstance(value, Call) and isinstance(value.args, tuple) and value.args):
            return None
        if value.name.startswith("torch._utils.") and value.function.name in _WRAPPERS:
            value = value.args[0]
        else:
            break
    if not isinstance(value, Call) or not value.name.startswith("torch._utils."):
        return None
    name, args = value.function.name, value.args
    if (name not in _REBUILD and name != "_rebuild_qtensor") or len(args) < 4:
        return None
    pid = args[0].pid if isinstance(args[0], Persistent) else None
    if not (isinstance(pid, tuple) and len(pid) >= 5 and isinstance(pid[1], Global)):
        return None
    offset, size, stride, numel = args[1], args[2], args[3], pid[4]
    numbers = (offset, numel, *size, *stride) if _tuples(size, stride) else ("",)
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
        return None
    if len(size) != len(stride) or not isinstance(pid[2], str) or len(size) > 64:
        return None
    dtype = _STORAGES.get(pid[1].name, pid[1].name)
    return StoredTensor(dtype, numel, offset, size, stride, f"{folder}/{pid[2]}")


def _tuples(*values: Any) -> bool:
    return all(isinstance(value, tuple) for value in values)


def walk(root: Any, limit: int = MAX_TENSORS) -> Iterator[tuple[str, Any]]:
    """(dotted path, node) of every container, call and leaf under `root`, in stored order.

    A node reached by several paths is yielded under each, its children only while the path does
    not run in a circle; at most `limit` nodes.
    """
    stack: list[tuple[str, Any, frozenset[int]]] = [("", root, frozenset())]
    while stack and limit > 0:
        path, node, above = stack.pop()
        limit -= 1
        yield path, node
        if id(node) in above or len(above) > 64:
            continue
        children = list(_children(node))
        if children:
            below = above | {id(node)}
            dot = path + "." if path else ""
            stack.extend((f"{dot}{key}", child, below) for key, child in reversed(children))


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        yield from ((str(key), value) for key, value in node.items())
    elif isinstance(node, list | tuple):
        yield from ((str(index), value) for index, value in enumerate(node))
    elif isinstance(node, Call) and not node.name.startswith("torch._utils."):
        if isinstance(node.state, dict):
            yield from _children(node.state)
        elif node.state is not None:
            yield "state", node.state
        for index, item in enumerate(node.items):
            pair = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
            yield (item[0], item[1]) if pair else (str(index), item)
        if node.name.startswith("torch.jit._pickle."):
            yield from _children(node.args)


def tensors(archive: TorchArchive) -> dict[str, StoredTensor]:
    """Every stored tensor by name, in stored order.

    TorchScript: dotted attribute paths, as in ``named_parameters`` and ``named_buffers`` (a tensor
    shared by two modules stands under both), then ``constants.c0`` … for ``CONSTANTS.c0`` in the
    code. .pt2: names of the exported state dict, then ``constants.<name>``. Raises
    `UnreadableArtifact` when the members that name them cannot be read.
    """
    if archive.kind == "pt2":
        return dict(_pt2_tensors(archive))
    found: dict[str, StoredTensor] = {}
    for member, folder in (("data.pkl", "data"), ("constants.pkl", "constants")):
        if member not in archive.members:
            continue
        for path, node in walk(archive.pickle(member).root):
            stored = as_tensor(node, folder) if isinstance(node, Call) else None
            if stored is not None:
                name = f"constants.c{path}" if folder == "constants" else path
                found.setdefault(name, stored)
    return found


def _pt2_tensors(archive: TorchArchive) -> Iterator[tuple[str, StoredTensor]]:
    for folder, prefix in (("data/weights/", ""), ("data/constants/", "constants.")):
        for name in sorted(archive.members):
            if name.startswith(folder) and name.endswith("_config.json"):
                for key, entry in _config(archive, name).items():
                    stored = _pt2_tensor(entry, folder)
                    if stored is not None:
                        yield prefix + key, stored


def _config(archive: TorchArchive, name: str) -> dict[str, Any]:
    try:
        config = json.loads(archive.read(name))["config"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UnreadableArtifact(f"{archive.name}: {name} is no valid weights table") from None
    return config if isinstance(config, dict) else {}


def _pt2_tensor(entry: Any, folder: str) -> StoredTensor | None:
    """A plain (not pickled) weight of a .pt2 table, or None when the entry is something else."""
    try:
        meta = entry["tensor_meta"]
        size = tuple(int(n["as_int"]) for n in meta["sizes"])
        stride = tuple(int(n["as_int"]) for n in meta["strides"])
        offset, key = int(meta["storage_offset"]["as_int"]), str(entry["path_name"])
        dtype = _SERDE[meta["dtype"]]
        if entry.get("use_pickle") or len(size) != len(stride) or len(size) > 64:
            return None
        if not all(0 <= n < 1 << 62 for n in (offset, *size, *stride)):
            return None
        stored = StoredTensor(dtype, 0, offset, size, stride, folder + key)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return replace(stored, numel=stored.extent)


def read_tensor(archive: TorchArchive, stored: StoredTensor) -> Array:
    """The tensor's values, a new array of its size (native byte order, contiguous).

    Raises `UnreadableArtifact` when the member is missing, too short, or the dtype unknown.
    """
    try:
        dtype = _numpy_dtype(stored.dtype)
    except (TypeError, AttributeError):
        text = f"{archive.name}: tensor storage type {stored.dtype[:60]!r} is not known"
        raise UnreadableArtifact(text) from None
    if archive.byteorder == "big":
        dtype = dtype.newbyteorder(">")
    member = archive.members.get(stored.member)
    if member is None or stored.extent * dtype.itemsize > member.size or stored.count > member.size:
        text = f"{archive.name}: tensor bytes {stored.member!r} are missing or too short"
        raise UnreadableArtifact(text)
    data = np.frombuffer(archive.read(stored.member, limit=member.size), np.uint8)
    flat = data[: member.size // dtype.itemsize * dtype.itemsize].view(dtype)
    strides = [step * dtype.itemsize for step in stored.stride]
    view = np.lib.stride_tricks.as_strided(flat[stored.offset :], stored.size, strides)
    return np.array(view.astype(dtype.newbyteorder("=")), order="C")
