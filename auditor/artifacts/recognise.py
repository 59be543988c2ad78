"""What a file is, told from its bytes: never from its name, never by loading it.

Fast and free of torch and onnx: a few kilobytes of the head, and the directory of a zip.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from auditor.artifacts.torch_archive import Call, TorchArchive, open_archive
from auditor.errors import UnreadableArtifact, UnsupportedArtifact

HEAD = 1 << 16
_WIRE = frozenset({0, 1, 2, 5})
# Field numbers of onnx.ModelProto and their wire types (onnx.proto, IR version 1 to 13).
_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_TORCH_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")

ADVICE = "Give the ONNX, TorchScript (.pt) or torch.export (.pt2) file of the same model."


def recognise(path: Path) -> str:
    """``onnx``, ``torchscript`` or ``pt2``.

    Raises `UnreadableArtifact` for a missing, empty or broken file and `UnsupportedArtifact` for
    every format that is known and not audited, in one sentence that names it.
    """
    head, size = _head(path)
    if not head:
        raise UnreadableArtifact(f"{path} is empty.")
    for test, name in _REFUSED:
        if test(head, size):
            raise UnsupportedArtifact(f"{path} is {name}. {ADVICE}")
    for test, reason in _NOT_A_MODEL:
        if test(head, size):
            raise UnreadableArtifact(f"{path} {reason}")
    if head.startswith(b"PK"):
        return _zip(path)
    if _is_onnx(head):
        return "onnx"
    if _is_text(head):
        raise UnreadableArtifact(f"{path} is a text file, not a model.")
    raise UnreadableArtifact(f"{path} is no model file this tool knows. {ADVICE}")


def _head(path: Path) -> tuple[bytes, int]:
    try:
        info = path.stat()
        if stat.S_ISDIR(info.st_mode):
            raise UnreadableArtifact(f"{path} is a directory, not a model file.")
        if not stat.S_ISREG(info.st_mode):
            raise UnreadableArtifact(f"{path} is no regular file.")
        with path.open("rb") as stream:
            return stream.read(HEAD), info.st_size
    except FileNotFoundError:
        raise UnreadableArtifact(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableArtifact(f"{path} cannot be read: {reason}.") from None


def _starts(*marks: bytes) -> Callable[[bytes, int], bool]:
    return lambda head, size: head.startswith(marks)


def _at(offset: int, *marks: bytes) -> Callable[[bytes, int], bool]:
    return lambda head, size: head[offset:].startswith(marks)


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return 2 <= length <= size - 8 and head[8:9] == b"{" and b'"' in head[9:40]


def _is_legacy_torch(head: bytes, size: int) -> bool:
    return head.startswith(b"\x80") and _TORCH_MAGIC in head[:64]


def _is_pickle(head: bytes, size: int) -> bool:
    return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _is_html(head: bytes, size: int) -> bool:
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--"))


def _is_tar(head: bytes, size: int) -> bool:
    return head[257:262] == b"ustar"


_REFUSED: tuple[tuple[Callable[[bytes, int], bool], str], ...] = (
    (_starts(b"\x89HDF\r\n\x1a\n"), "an HDF5 file, most likely a Keras model (.h5)"),
    (_at(4, b"TFL3"), "a TensorFlow Lite model"),
    (_at(4, b"ORTM"), "an ONNX Runtime flatbuffer (.ort)"),
    (_is_safetensors, "a safetensors file: weights without the network that uses them"),
    (
        _is_legacy_torch,
        "a pickle written by torch.save in the old format (an nn.Module or a state dict): "
        "opening it would run code, and a state dict holds no network",
    ),
    (_is_pickle, "a Python pickle: opening it would run code"),
    (_starts(b"\x93NUMPY"), "a NumPy array"),
    (_starts(b"GGUF", b"lmgg", b"tjgg"), "a GGML/GGUF language model"),
)
_NOT_A_MODEL: tuple[tuple[Callable[[bytes, int], bool], str], ...] = (
    (
        _starts(b"version https://git-lfs"),
        "is a Git LFS pointer, not the model itself; fetch it with `git lfs pull`.",
    ),
    (_is_html, "is a web page, most likely a failed download."),
    (_starts(b"\x1f\x8b"), "is gzip-compressed; unpack it first."),
    (_starts(b"BZh"), "is bzip2-compressed; unpack it first."),
    (_starts(b"\xfd7zXZ\x00"), "is xz-compressed; unpack it first."),
    (_starts(b"\x28\xb5\x2f\xfd"), "is zstd-compressed; unpack it first."),
    (_starts(b"7z\xbc\xaf\x27\x1c", b"Rar!"), "is a packed archive; unpack it first."),
    (_is_tar, "is a tar archive; unpack it first."),
    (_starts(b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), "is an image, not a model."),
    (_starts(b"\x7fELF", b"MZ"), "is a program, not a model."),
)


def _zip(path: Path) -> str:
    archive = open_archive(path)
    names = {member.name for member in archive.all_members}
    if archive.kind in ("torchscript", "pt2"):
        return archive.kind
    if archive.kind == "torchscript-legacy":
        what = "a TorchScript archive of PyTorch 1.0, which no current torch writes"
    elif archive.kind == "package":
        what = "a torch.package archive, which carries Python code"
    elif archive.kind == "save":
        what = _saved_by_torch(archive)
    elif {"config.json", "metadata.json"} <= names or "model.weights.h5" in names:
        what = "a Keras model (.keras)"
    elif names and all(name.endswith(".npy") for name in names):
        what = "a NumPy archive (.npz)"
    elif any(name.startswith("Manifest.json") for name in names):
        what = "a Core ML package"
    elif "[Content_Types].xml" in names:
        what = "an office document"
    else:
        what = "a plain zip archive; unpack it first"
    raise UnsupportedArtifact(f"{path} is {what}. {ADVICE}")


def _saved_by_torch(archive: TorchArchive) -> str:
    """Which of the two things `torch.save` wrote, from the type of the pickle's root."""
    try:
        root = archive.pickle("data.pkl").root
    except UnreadableArtifact:
        return "a file of torch.save with an unreadable pickle"
    name = root.name if isinstance(root, Call) else ""
    if isinstance(root, dict) or name.rpartition(".")[2] in ("OrderedDict", "defaultdict"):
        return "a state dict or checkpoint of torch.save: weights without the network"
    if isinstance(root, Call) and not name.startswith("torch._utils."):
        shown = name[:80] if name.isprintable() else "?"
        return f"a pickled object of torch.save (class {shown}): opening it would run code"
    return "a pickled tensor or value of torch.save, not a network"


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    return -1, position


def _is_onnx(head: bytes) -> bool:
    """True when the head parses as fields of onnx.ModelProto.

    A producer may write the fields in any order, so the first fields must be of the message, with
    their wire types, and one of them tell: an IR version, a graph or an opset.
    """
    position, seen = 0, set()
    while position < len(head):
        key, position = _varint(head, position)
        number, wire = key >> 3, key & 7
        if key < 0 or wire not in _WIRE:
            break
        if number not in _MODEL_FIELDS or _MODEL_FIELDS[number] != wire:
            break
        seen.add(number)
        value, position = _varint(head, position)
        if value < 0:
            break
        if wire == 0 and number == 1 and not 0 < value < 1000:
            return False
        if wire == 2:
            position += value
    return bool(seen & {7, 8}) or (1 in seen and len(seen) > 1)


def _is_text(head: bytes) -> bool:
    try:
        text = head[:4096].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < min(len(head), 4096) - 4:
            return False
        text = head[: error.start].decode("utf-8")
    return all(letter.isprintable() or letter in "\r\n\t\f" for letter in text)
