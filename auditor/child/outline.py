"""Child operations of ``audit diff``: ``outline`` (what a file is made of) and ``weights``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from auditor.artifacts.open import open_artifact
from auditor.child.behave import STATE
from auditor.child.file_audit import Emit, Reply
from auditor.child.session import Session

_MOST_NODES = 100_000
_LARGEST = 1 << 26
_MANGLED = re.compile(r"[./]?___torch_mangle_\d+")
_MOST_VALUES = 100_000_000


def run(params: dict[str, Any], arrays: dict[str, Any], emit: Emit) -> Reply:
    """``params``: ``path``. Body: ``nodes`` (one string each), ``metadata``; nothing is run.

    ONNX: operators by what they compute (``Clip(x) -> y [digest of the attributes]``), metadata
    entries. TorchScript: its code, a line each; .pt2: its graph, a node each; other entries of the
    archives with a digest in place of the content. The counters torch puts into names of classes
    (``___torch_mangle_7``) depend on what else a process compiled and are left out; weights are
    compared apart.
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
    nodes = []
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = _MANGLED.sub("", info.filename.partition("/")[2] or info.filename)
            if _is_weight(name) or _says_nothing(name) or info.file_size > _LARGEST:
                continue
            nodes += _parts(name, archive.read(info))
            if len(nodes) > _MOST_NODES:
                break
    return {"nodes": nodes[:_MOST_NODES], "metadata": {}}, {}


def _parts(name: str, content: bytes) -> list[str]:
    """Code line by line, a .pt2 graph node by node, anything else by its digest."""
    if name.endswith(".py"):
        lines = _MANGLED.sub("", content.decode(errors="replace")).splitlines()
        return [f"{name}: {line.strip()}" for line in lines if line.strip()]
    if name.startswith("models/") and name.endswith(".json"):
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return _exported(name, json.loads(content))
    if name.endswith(".pkl"):
        content = _without_mangling(content)
    return [f"{name} ({_digest(content)})"]


def _exported(name: str, program: dict[str, Any]) -> list[str]:
    """The nodes of a .pt2 graph with a digest of what they are given, and one of all the rest."""
    nodes = program["graph_module"]["graph"].pop("nodes")
    found = []
    for node in nodes:
        outputs = [out["as_tensor"]["name"] for out in node["outputs"] if "as_tensor" in out]
        given = _digest(json.dumps([node["inputs"], node["outputs"]], sort_keys=True).encode())
        found.append(f"{node['target']} -> {', '.join(outputs)} [{given}]")
    rest = _digest(json.dumps(program, sort_keys=True).encode())
    return [*found, f"{name} besides its nodes ({rest})"]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _without_mangling(pickled: bytes) -> bytes:
    """The operations of a pickle as text, without torch's counters in class names."""
    try:
        steps = [f"{op.name} {arg!r}" for op, arg, _ in pickletools.genops(pickled)]
    except Exception:  # bytes that are no pickle are compared as they are
        return pickled
    return _MANGLED.sub("", "\n".join(steps)).encode()


def _node(node: Any) -> str:
    domain = f"{node.domain}::" if node.domain not in ("", "ai.onnx") else ""
    given = b"".join(item.SerializeToString(deterministic=True) for item in node.attribute)
    shown = f" [{_digest(given)}]" if given else ""
    return f"{domain}{node.op_type}({', '.join(node.input)}) -> {', '.join(node.output)}{shown}"


def _is_weight(name: str) -> bool:
    """Stored tensors of TorchScript (``data/0``) and .pt2 (``data/weights/...``)."""
    parts = name.split("/")
    return "weights" in parts or (parts[0] == "data" and parts[-1].isdigit())


def _says_nothing(name: str) -> bool:
    """A digest of the rest, and source positions: they change with everything."""
    return name == ".data/serialization_id" or name.endswith(".debug_pkl")


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
