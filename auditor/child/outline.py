"""Child operations of ``audit diff``: ``outline`` (what a file is made of) and ``weights``."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from auditor.artifacts.open import open_artifact
from auditor.child.behave import STATE
from auditor.child.file_audit import Emit, Reply
from auditor.child.session import Session

_MOST_NODES = 100_000
_MOST_VALUES = 100_000_000


def run(params: dict[str, Any], arrays: dict[str, Any], emit: Emit) -> Reply:
    """``params``: ``path``. Body: ``nodes`` (one string each), ``metadata``; nothing is run.

    ONNX: operators by what they compute (``Relu -> name``), metadata entries. Archives: their
    entries, with a digest in place of the content; weights are compared apart.
    """
    path = Path(params["path"])
    artifact = open_artifact(path)
    if artifact.format == "onnx":
        from auditor.artifacts.onnx_parse import read_model

        proto = read_model(path).proto
        nodes = [_node(node) for node in proto.graph.node[:_MOST_NODES]]
        nodes += [f"function {item.domain}.{item.name}" for item in proto.functions]
        metadata = {entry.key: entry.value[:2000] for entry in proto.metadata_props}
        return {"nodes": nodes, "metadata": metadata}, {}
    entries: dict[str, str] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.partition("/")[2] or info.filename
            if _is_weight(name) or info.file_size > 1 << 26:
                continue
            entries[name] = hashlib.sha256(archive.read(info)).hexdigest()[:16]
    return {"nodes": [f"{name} ({digest})" for name, digest in entries.items()], "metadata": {}}, {}


def _node(node: Any) -> str:
    domain = f"{node.domain}::" if node.domain not in ("", "ai.onnx") else ""
    return f"{domain}{node.op_type} -> {', '.join(node.output)}"


def _is_weight(name: str) -> bool:
    """Stored tensors of TorchScript (``data/0``) and .pt2 (``data/weights/...``)."""
    parts = name.split("/")
    return "weights" in parts or (parts[0] == "data" and parts[-1].isdigit())


def weights(params: dict[str, Any], arrays: dict[str, Any], emit: Emit) -> Reply:
    """Every parameter of the loaded model by its own name, float32."""
    session: Session | None = STATE.get("session")
    if session is None or session.classifier.twin is None:
        reason = "the model could not be run" if session is None else session.classifier.twin_reason
        return {"read": False, "reason": reason}, {}
    stored = session.classifier.twin.parameters
    if sum(value.numel() for value in stored.values()) > _MOST_VALUES:
        return {"read": False, "reason": f"more than {_MOST_VALUES:,} parameters"}, {}
    found = {n: np.ascontiguousarray(v.detach().cpu().float().numpy()) for n, v in stored.items()}
    return {"read": True}, found
