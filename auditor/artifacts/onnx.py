"""ONNX files: describe without running, run in ONNX Runtime, differentiate, write back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import onnx_ir as ir

from auditor.artifacts.digest import digest_file
from auditor.artifacts.interface import (
    Array,
    Artifact,
    Description,
    FileDigest,
    Runtime,
    TensorInfo,
)
from auditor.artifacts.onnx_load import (
    all_nodes,
    external_files,
    inside_folder,
    operator_name,
    stored_value,
    tensor_array,
    to_ir,
)
from auditor.artifacts.onnx_parse import ParsedModel, read_model
from auditor.errors import AuditError, UnreadableArtifact

if TYPE_CHECKING:
    from auditor.twin.interface import Twin

_NUMPY_NAMES = {"FLOAT": "float32", "DOUBLE": "float64"}
_WEIGHT_TYPES = {"INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2"}


class OnnxArtifact(Artifact):
    """One ``.onnx`` file and the external data beside it."""

    format: ClassVar[str] = "onnx"

    @cached_property
    def parsed(self) -> ParsedModel:
        """The protobuf as it lies in the file. Raises `UnreadableArtifact`."""
        return read_model(self.path)

    @cached_property
    def model(self) -> ir.Model:
        """The graph, functions inlined, external data left on disk; may raise like `parsed`."""
        return to_ir(self.parsed.proto, self.path)

    @cached_property
    def _description(self) -> Description:
        model = self.model
        constants = set(model.graph.initializers)
        producer = f"{model.producer_name or ''} {model.producer_version or ''}".strip()
        digests, problems = self._external_digests()
        extra = {"ir_version": str(model.ir_version), **problems}
        if self.parsed.proto.functions:
            extra["functions"] = str(len(self.parsed.proto.functions))
        if self.parsed.trailing:
            extra["trailing_bytes"] = str(self.parsed.trailing)
        others = {d: v for d, v in model.opset_imports.items() if d not in ("", "ai.onnx")}
        if others:
            extra["opsets"] = ", ".join(f"{domain} {version}" for domain, version in others.items())
        return Description(
            format=self.format,
            files=(digest_file(self.path), *digests),
            producer=producer or "unknown",
            version=str(model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))),
            inputs=tuple(_info(v) for v in model.graph.inputs if v.name not in constants),
            outputs=tuple(_info(v) for v in model.graph.outputs),
            parameters=count_parameters(model),
            operators=dict(Counter(operator_name(node) for node in all_nodes(model))),
            extra=extra,
        )

    def describe(self) -> Description:
        """See `Artifact.describe`. External data outside the folder are named, never read."""
        return self._description

    def open_runtime(self, *, threads: int = 1) -> Runtime:
        """ONNX Runtime on the CPU. Raises `UnreadableArtifact` when it refuses the model."""
        from auditor.artifacts.onnx_runtime import OnnxRuntime

        self._require_sound()
        return OnnxRuntime(self.path, self.parsed.proto, threads=threads)

    def open_twin(self, *, device: str = "cpu") -> Twin:
        """The graph in torch. Raises `NoTwin` naming the operator that is missing."""
        from auditor.twin.onnx.network import open_onnx_twin

        self._require_sound()
        return open_onnx_twin(self.model, device=device)

    def write(
        self, path: Path, changes: Mapping[str, Array], provenance: Mapping[str, str]
    ) -> tuple[Path, ...]:
        """See `Artifact.write`."""
        from auditor.artifacts.onnx_write import write_copy

        self._require_sound()
        return write_copy(self.path, path, changes, provenance)

    def _require_sound(self) -> None:
        """Refuse to go beyond parsing where that would touch files that are not the model's."""
        if self.parsed.trailing:
            raise UnreadableArtifact(
                f"{self.path} holds {self.parsed.trailing:,} foreign bytes after the model; "
                "runtimes refuse it."
            )
        folder = self.path.resolve().parent
        for name, path in external_files(self.model).items():
            if not inside_folder(path, folder):
                raise UnreadableArtifact(
                    f"{self.path} wants external data outside its folder: {name!r}."
                )
            if not path.is_file():
                raise UnreadableArtifact(
                    f"{self.path} needs the external data file {name!r} beside it."
                )

    def _external_digests(self) -> tuple[list[FileDigest], dict[str, str]]:
        folder = self.path.resolve().parent
        digests, outside, missing = [], [], []
        for name, path in external_files(self.model).items():
            if not inside_folder(path, folder):
                outside.append(name)
            elif not path.is_file():
                missing.append(name)
            else:
                digests.append(digest_file(path, name))
        problems = {"external_outside": ", ".join(outside), "external_missing": ", ".join(missing)}
        return digests, {key: value for key, value in problems.items() if value}


def count_parameters(model: ir.Model) -> int:
    """Number of stored weights, from declared sizes alone: floats and low-bit integers.

    Weights that ConstantOfShape makes from a stored shape count too.
    """
    total = 0
    for graph in model.graphs():
        tensors = (v.const_value for v in graph.initializers.values() if v.const_value is not None)
        total += sum(_size(tensor) for tensor in tensors)
    for node in all_nodes(model):
        if node.op_type == "Constant" and (stored := stored_value(node)) is not None:
            size = _size(stored)
            total += size if size > 1 else 0
        elif node.op_type == "ConstantOfShape":
            total += _made(node)
    return total


def _size(tensor: Any) -> int:
    kind = tensor.dtype
    if not (kind.is_floating_point() or kind.name in _WEIGHT_TYPES):
        return 0
    return int(tensor.size)


def _made(node: ir.Node) -> int:
    """Number of floats a ConstantOfShape node makes when its shape is stored in the file."""
    source = node.inputs[0] if node.inputs else None
    shape = ir.convenience.get_const_tensor(source) if source is not None else None
    value = stored_value(node)
    if shape is None or shape.size > 8:
        return 0
    if value is not None and not value.dtype.is_floating_point():
        return 0
    try:
        return max(0, math.prod(int(size) for size in tensor_array(shape).reshape(-1)))
    except AuditError:
        return 0


def _info(value: ir.Value) -> TensorInfo:
    kind = value.dtype.name if value.dtype is not None else "unknown"
    shape = None
    if value.shape is not None:
        shape = tuple(d if isinstance(d, int) else (d.value or None) for d in value.shape)
    return TensorInfo(value.name or "", _NUMPY_NAMES.get(kind, kind.lower()), shape)
