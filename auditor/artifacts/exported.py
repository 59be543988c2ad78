"""``.pt2`` archives of `torch.export.save`: described from their JSON, run by torch.export."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.artifacts.digest import digest_file
from auditor.artifacts.interface import Array, Artifact, Description, Runtime, TensorInfo
from auditor.artifacts.torch_archive import TorchArchive, open_archive
from auditor.artifacts.torch_tensors import StoredTensor, serde_dtype, tensors
from auditor.artifacts.torch_writeback import write_archive
from auditor.artifacts.torchscript import count_parameters
from auditor.errors import UnreadableArtifact, UnsupportedArtifact

if TYPE_CHECKING:
    from auditor.twin.exported import ExportedTwin

Json = dict[str, Any]


class ExportedArtifact(Artifact):
    """A ``torch.export`` archive."""

    format = "pt2"

    @cached_property
    def archive(self) -> TorchArchive:
        """The zip behind the artifact. Raises `UnreadableArtifact`."""
        archive = open_archive(self.path)
        if archive.kind != "pt2":
            raise UnreadableArtifact(f"{self.path} is no torch.export archive")
        return archive

    @cached_property
    def stored(self) -> dict[str, StoredTensor]:
        """Every tensor of the archive by the name `write` takes."""
        return tensors(self.archive)

    @cached_property
    def _model(self) -> Json:
        names = [n for n in self.archive.members if _is_model(n)]
        if not names:
            raise UnsupportedArtifact(
                f"{self.path} holds no exported program (an AOTInductor package of machine code, "
                "or a .pt2 of an early torch): export it again with torch.export.save"
            )
        try:
            model = json.loads(self.archive.read(sorted(names)[0]))
        except (ValueError, RecursionError):
            raise UnreadableArtifact(f"{self.path}: {names[0]} is no valid JSON") from None
        if not isinstance(model, dict):
            raise UnreadableArtifact(f"{self.path}: {names[0]} is no exported program")
        return model

    @cached_property
    def _description(self) -> Description:
        model = self._model
        try:
            inputs, outputs, operators = _program(model)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError):
            text = f"{self.path}: the exported program in the archive is incomplete"
            raise UnreadableArtifact(text) from None
        schema = model.get("schema_version")
        version = schema if isinstance(schema, dict) else {}
        return Description(
            format=self.format,
            files=(digest_file(self.path),),
            producer=f"PyTorch {model.get('torch_version', '')}"[:60].strip(),
            version=f"{version.get('major', '?')}.{version.get('minor', '?')}"[:20],
            inputs=inputs,
            outputs=outputs,
            parameters=count_parameters(self.stored),
            operators=operators,
            extra={"archive version": self.archive.version},
        )

    def describe(self) -> Description:
        """Parse the archive (cached); nothing is loaded. Raises `UnreadableArtifact`."""
        return self._description

    def open_runtime(self, *, threads: int = 1) -> Runtime:
        """Load with torch.export (which unpickles payloads). Child only."""
        from auditor.artifacts.exported_runtime import ExportedRuntime

        return ExportedRuntime(self.path, self.describe().inputs, threads=threads)

    def open_twin(self, *, device: str = "cpu") -> ExportedTwin:
        """Load and interpret the fx graph. Child only. Raises `NoTwin`, `UnreadableArtifact`."""
        from auditor.artifacts.exported_load import load_on_cpu
        from auditor.twin.exported import open_twin

        return open_twin(load_on_cpu(self.path), device=device)

    def write(
        self, path: Path, changes: Mapping[str, Array], provenance: Mapping[str, str]
    ) -> tuple[Path, ...]:
        """See `Artifact.write`."""
        write_archive(self.archive, self.path, path, changes, provenance)
        return (path,)


def _is_model(name: str) -> bool:
    return name == "serialized_exported_program.json" or (
        name.startswith("models/") and name.endswith(".json")
    )


def _program(
    model: Json,
) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...], dict[str, int]]:
    module = model["graph_module"]
    graph, signature = module["graph"], module["signature"]
    values = graph["tensor_values"]
    inputs = tuple(_named(signature["input_specs"], "user_input", values))
    outputs = tuple(_named(signature["output_specs"], "user_output", values))
    counts: Counter[str] = Counter(_operator(str(node["target"])) for node in graph["nodes"])
    return inputs, outputs, dict(counts.most_common())


def _operator(target: str) -> str:
    """``conv2d`` for ``torch.ops.aten.conv2d.default``; other spaces as ``space::name``."""
    parts = target.split(".")
    if parts[:2] == ["torch", "ops"] and len(parts) >= 4:
        return parts[3] if parts[2] == "aten" else f"{parts[2]}::{parts[3]}"
    return target[:80]


def _named(specs: list[Json], kind: str, values: Json) -> Iterator[TensorInfo]:
    for spec in specs:
        if kind not in spec:
            continue
        argument = spec[kind]["arg"]
        name = argument.get("as_tensor", {}).get("name")
        if name is None:
            yield TensorInfo(kind, next(iter(argument), "none").removeprefix("as_"), None)
            continue
        meta = values[name]
        shape = tuple(_size(size) for size in meta["sizes"])
        yield TensorInfo(str(name), serde_dtype(meta["dtype"]), shape)


def _size(size: Json) -> int | str:
    if "as_int" in size:
        return int(size["as_int"])
    text = str(size.get("as_expr", {}).get("expr_str", "?"))
    return text.split("'")[1] if text.startswith("Symbol('") else text[:40]
