"""TorchScript archives: described from their bytes, run by torch.jit, edited in place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.artifacts.digest import digest_file
from auditor.artifacts.interface import Array, Artifact, Description, Runtime, TensorInfo
from auditor.artifacts.torch_archive import Call, Persistent, TorchArchive, open_archive
from auditor.artifacts.torch_tensors import StoredTensor, tensors, walk
from auditor.artifacts.torch_writeback import write_archive
from auditor.errors import UnreadableArtifact

if TYPE_CHECKING:
    from auditor.twin.torchscript import TorchScriptTwin

_STRINGS = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'')
_CALLS = re.compile(r"(?<![\w.])(?:torch\.(\w+)|ops\.(\w+)\.(\w+))\(")
_FORWARD = re.compile(r"^  def forward\((.*?)\)\s*->\s*(.+?):$", re.MULTILINE | re.DOTALL)
_SIGNATURE = 10_000
"""Characters in which the signature of forward is looked for: hostile code stays cheap."""
_IMAGE_CHANNELS = (1, 3, 4)


class TorchScriptArtifact(Artifact):
    """A ``torch.jit.save`` archive (scripted, traced or frozen)."""

    format = "torchscript"

    @cached_property
    def archive(self) -> TorchArchive:
        """The zip behind the artifact. Raises `UnreadableArtifact`."""
        archive = open_archive(self.path)
        if archive.kind != "torchscript":
            raise UnreadableArtifact(f"{self.path} is no TorchScript archive")
        return archive

    @cached_property
    def stored(self) -> dict[str, StoredTensor]:
        """Every tensor of the archive by the name `write` takes."""
        return tensors(self.archive)

    @cached_property
    def _description(self) -> Description:
        archive = self.archive
        code = archive.code()
        signature = _forward(archive, code)
        operators = count_operators(code)
        return Description(
            format=self.format,
            files=(digest_file(self.path),),
            producer="PyTorch 2.1 or later" if "byteorder" in archive.members else "PyTorch",
            version=archive.version,
            inputs=tuple(_inputs(signature[0], self.stored)),
            outputs=(TensorInfo("output", signature[1] or "unknown", None),),
            parameters=count_parameters(self.stored),
            operators=operators,
            extra=_extra(archive, self.stored, operators),
        )

    def describe(self) -> Description:
        """Parse the archive (cached); nothing is loaded. Raises `UnreadableArtifact`."""
        return self._description

    def open_runtime(self, *, threads: int = 1) -> Runtime:
        """Load with torch.jit. Child only. Raises `UnreadableArtifact`, `UnsupportedArtifact`."""
        from auditor.artifacts.torchscript_runtime import TorchScriptRuntime

        return TorchScriptRuntime(self.path, self.describe().inputs, threads=threads)

    def open_twin(self, *, device: str = "cpu") -> TorchScriptTwin:
        """Load and interpret the graph. Child only. Raises `NoTwin`, `UnreadableArtifact`."""
        from auditor._torch_private import load_script
        from auditor.twin.torchscript import open_twin

        return open_twin(load_script(self.path), self.archive, device=device)

    def write(
        self, path: Path, changes: Mapping[str, Array], provenance: Mapping[str, str]
    ) -> tuple[Path, ...]:
        """See `Artifact.write`; the archive's code and attributes stay as they are."""
        write_archive(self.archive, self.path, path, changes, provenance)
        return (path,)


def count_parameters(stored: Mapping[str, StoredTensor]) -> int:
    """Elements of all floating tensors, each storage place counted once."""
    places = {
        (t.member, t.offset, t.size): t.count
        for t in stored.values()
        if t.dtype.startswith(("float", "bfloat", "complex"))
    }
    return sum(places.values())


def count_operators(code: Mapping[str, str]) -> dict[str, int]:
    """Calls of operators in the archive's code: bare names for aten, ``space::name`` otherwise."""
    counts: Counter[str] = Counter()
    for text in code.values():
        for bare, space, name in _CALLS.findall(_STRINGS.sub('""', text)):
            counts[bare or (name if space == "aten" else f"{space}::{name}")] += 1
    return dict(counts.most_common())


def _forward(archive: TorchArchive, code: Mapping[str, str]) -> tuple[list[tuple[str, str]], str]:
    """([(name, type) of the arguments without a default], return type) of the root's forward."""
    root = archive.pickle("data.pkl").root if "data.pkl" in archive.members else None
    if not isinstance(root, Call):
        return [], ""
    module, _, name = root.name.rpartition(".")
    text = code.get("code/" + module.replace(".", "/") + ".py", "")
    start = re.search(rf"^class {re.escape(name)}\(", text, re.MULTILINE)
    if start is None:
        return [], ""
    body = text[start.end() :].split("\nclass ", 1)[0]
    place = body.find("\n  def forward(") + 1
    found = _FORWARD.match(body, place, place + _SIGNATURE)
    if found is None:
        return [], ""
    arguments = []
    for part in _split(found[1])[1:]:
        name, _, rest = part.partition(":")
        kind, default, _ = rest.partition("=")
        if not default:
            arguments.append((name.strip(), " ".join(kind.split())))
    return arguments, " ".join(found[2].split())[:200]


def _split(text: str) -> list[str]:
    """`text` at the commas outside brackets."""
    parts, depth, last = [], 0, 0
    for index, letter in enumerate(text):
        depth += (letter in "[({") - (letter in "])}")
        if letter == "," and depth == 0:
            parts.append(text[last:index])
            last = index + 1
    return [*parts, text[last:]] if text[last:].strip() else parts


def _inputs(
    arguments: list[tuple[str, str]], stored: Mapping[str, StoredTensor]
) -> Iterator[TensorInfo]:
    """Tensor arguments; the shape is what the first stored weight tells, if anything."""
    images = [name for name, kind in arguments if kind == "Tensor"]
    for name, kind in arguments:
        if kind != "Tensor":
            yield TensorInfo(name, kind, None)
        else:
            shape, dtype = _first_weight(stored) if len(images) == 1 else (None, "float32")
            yield TensorInfo(name, dtype, shape)


def _first_weight(
    stored: Mapping[str, StoredTensor],
) -> tuple[tuple[int | str | None, ...] | None, str]:
    """(input shape, dtype) suggested by the first weight: image channels of a convolution only."""
    for tensor in stored.values():
        if len(tensor.size) < 2 or not tensor.dtype.startswith(("float", "bfloat")):
            continue
        if len(tensor.size) == 4 and tensor.size[1] in _IMAGE_CHANNELS and tensor.size[2] > 1:
            return ("N", tensor.size[1], None, None), tensor.dtype
        return None, tensor.dtype
    return None, "float32"


def _extra(
    archive: TorchArchive, stored: Mapping[str, StoredTensor], operators: Mapping[str, int]
) -> dict[str, str]:
    """Facts for ``audit inspect``: how it was made, and on what device it was saved."""
    extra: dict[str, str] = {}
    if stored and all(name.startswith("constants.") for name in stored):
        extra["frozen"] = "yes: weights are constants of the code, named constants.c<number>"
    if any("mkldnn" in name.lower() for name in operators):
        extra["optimized"] = "by torch.jit.optimize_for_inference: torch cannot load it again"
    if any(name.startswith("quantized::") for name in operators):
        extra["quantized"] = "yes: predictions only, no gradients"
    root: Any = archive.pickle("data.pkl").root if "data.pkl" in archive.members else None
    if isinstance(root, Call) and isinstance(root.state, dict) and root.state.get("training"):
        extra["training"] = "saved in training mode; run in evaluation mode here"
    devices = {
        str(node.pid[3])[:20]
        for _, node in walk(root)
        if isinstance(node, Call)
        for node in _persistent(node)
    }
    if devices - {"cpu"}:
        extra["device"] = "saved on " + ", ".join(sorted(devices))
    return extra


def _persistent(call: Call) -> Iterator[Persistent]:
    for value in call.args if isinstance(call.args, tuple) else ():
        if isinstance(value, Persistent) and isinstance(value.pid, tuple) and len(value.pid) >= 5:
            yield value
