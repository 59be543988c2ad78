"""Tiny hand-made torch archives, honest and broken; made without torch."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

LINEAR = """\
class Net(Module):
  __parameters__ = ["weight", "bias", ]
  __buffers__ = []
  weight : Tensor
  bias : Tensor
  training : bool
  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    weight = self.weight
    bias = self.bias
    y = torch.linear(torch.flatten(x, 1), weight, bias)
{body}    return y
"""


def _tensor(key: str, count: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    def ints(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", v) for v in values) + b"t"

    text = key.encode()
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX" + struct.pack("<L", len(text))
    storage += text + b"X\x03\x00\x00\x00cpuJ" + struct.pack("<i", count) + b"tQ"
    head = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + ints(size) + ints(stride)
    return head + b"\x88ccollections\nOrderedDict\n)RtR"


def data_pickle(size: tuple[int, int] = (10, 192)) -> bytes:
    """data.pkl of a linear classifier as torch.jit.save writes it."""
    weight = _tensor("0", 1920, size, (size[1], 1))
    bias = _tensor("1", 10, (10,), (1,))
    out = b"\x80\x02c__torch__\nNet\n)\x81}(X\x06\x00\x00\x00weight" + weight
    return out + b"X\x04\x00\x00\x00bias" + bias + b"X\x08\x00\x00\x00training\x89ub."


def members(body: str = "", **more: bytes) -> dict[str, bytes]:
    """Members of a small archive; `body` is put before the return of its forward."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    found = {
        "data.pkl": data_pickle(),
        "code/__torch__.py": LINEAR.format(body=lines).encode(),
        "data/0": struct.pack("<1920f", *(i % 7 * 0.01 for i in range(1920))),
        "data/1": struct.pack("<10f", *range(10)),
        "constants.pkl": pickle.dumps((), 2),
        "version": b"3\n",
        "byteorder": b"little",
    }
    found.update(more)
    return found


def write(path: Path, files: Mapping[str, bytes], root: str = "m") -> Path:
    """A plain zip with the members under `root`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"{root}/{name}" if root else name, data)
    return path


def raw_zip(entries: list[tuple[str, bytes, dict[str, int]]]) -> bytes:
    """A zip written by hand. Each entry: name, bytes, overrides.

    Overrides: ``local_size``, ``local_crc``, ``flags``, ``method``, ``mode``, ``offset``, ``size``,
    ``packed``;
    ``local_name`` is given as an index into the entries whose name to use.
    """
    body, central = b"", b""
    for name, data, other in entries:
        offset = other.get("offset", len(body))
        shown = entries[other["local_name"]][0] if "local_name" in other else name
        crc, flags = zlib.crc32(data), other.get("flags", 0)
        method, size = other.get("method", 0), other.get("size", len(data))
        local = (20, flags, method, 0, 0, other.get("local_crc", crc), len(data))
        length = other.get("local_size", len(data))
        body += b"PK\x03\x04" + struct.pack("<5H3L2H", *local, length, len(shown), 0)
        body += shown.encode() + data
        packed = other.get("packed", len(data))
        fields = (20, 20, flags, method, 0, 0, crc, packed, size, len(name))
        central += b"PK\x01\x02" + struct.pack("<6H3L", *fields[:9]) + struct.pack("<H", len(name))
        central += struct.pack("<4H2L", 0, 0, 0, 0, other.get("mode", 0) << 16, offset)
        central += name.encode()
    end = struct.pack("<4H2LH", 0, 0, len(entries), len(entries), len(central), len(body), 0)
    return body + central + b"PK\x05\x06" + end


def entries(files: Mapping[str, bytes]) -> list[tuple[str, bytes, dict[str, int]]]:
    """`members` as entries for `raw_zip`."""
    return [(f"m/{name}", data, {}) for name, data in files.items()]
