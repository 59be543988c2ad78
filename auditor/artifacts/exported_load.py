"""Load a ``.pt2`` on this machine's CPU, wherever it was exported. Child only: imports torch."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from auditor import _torch_private as private
from auditor.artifacts.torch_archive import open_archive
from auditor.errors import UnreadableArtifact

_SAMPLES = "data/sample_inputs/"


def load_on_cpu(path: Path) -> Any:
    """The ``ExportedProgram`` with every tensor and device on the CPU.

    torch puts weights where the exporting machine had them and fails without that device, so a
    program from a GPU is loaded from a temporary copy whose JSON names the CPU. The copy carries
    no sample inputs: they are pickled tensors of that device, and nobody needs them. Raises
    `UnreadableArtifact`.
    """
    archive = open_archive(path)
    changed: dict[str, bytes] = {}
    for name in archive.members:
        if name.startswith(("models/", "data/")) and name.endswith(".json"):
            try:
                value = json.loads(archive.read(name))
                if _move(value):
                    changed[name] = json.dumps(value).encode()
            except (ValueError, RecursionError):
                raise UnreadableArtifact(f"{path}: {name} is no valid JSON") from None
    if not changed:
        return private.load_exported(path)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "on_cpu.pt2"
        with zipfile.ZipFile(copy, "w") as target:
            for name, member in archive.members.items():
                data = changed.get(name)
                if data is None:
                    empty = name.startswith(_SAMPLES)
                    data = b"" if empty else archive.read(name, limit=member.size)
                target.writestr(f"{archive.root}/{name}", data)
        return private.load_exported(copy)


def _move(value: Any) -> bool:
    """Replace every device of another type than the CPU inside a JSON value; True if any was."""
    moved = False
    if isinstance(value, dict):
        kind = value.get("type")
        if (
            set(value) == {"type", "index"}
            and isinstance(kind, str)
            and kind not in ("cpu", "meta")
        ):
            value.update(type="cpu", index=None)
            return True
        for item in value.values():
            moved |= _move(item)
    elif isinstance(value, list):
        for item in value:
            moved |= _move(item)
    return moved
