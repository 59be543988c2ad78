"""Child operation ``cut``: the ONNX model without the trigger logic the file audit finds in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from auditor.child.file_audit import Emit, Reply


def run(params: dict[str, Any], arrays: dict[str, Any], emit: Emit) -> Reply:
    """``params``: ``path``, ``provenance``. Parses and rewrites, runs nothing of the model.

    The result body says ``repaired``, the ``steps`` and node counts; the array is ``model``.
    """
    from auditor.sanitize.graph_cut import CannotCut, cut_triggers, model_bytes

    try:
        cut = cut_triggers(Path(params["path"]))
    except CannotCut as reason:
        return {"repaired": False, "reason": f"the trigger cannot be cut out: {reason}"}, {}
    if cut is None:
        return {"repaired": False, "reason": "no trigger logic is left to cut"}, {}
    data = model_bytes(cut.model, dict(params["provenance"]))
    body = {
        "repaired": True,
        "method": "graph-cut",
        "record": {"cut": cut.steps, "nodes_before": cut.nodes_before, "nodes": cut.nodes_after},
    }
    return body, {"model": np.frombuffer(data, np.uint8)}
