"""Each operator of a twin alone, fed with ONNX Runtime's own intermediate values.

A quantized network rounds after every layer: a difference of one float ulp decides a tie, the tie
moves a value by a whole step, and an untrained network spreads that over everything that follows.
Comparing outputs then says little; comparing operators one by one says whether each is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor

from auditor.artifacts.onnx import OnnxArtifact
from auditor.twin.onnx.network import OnnxTwin
from auditor.twin.onnx.program import execute


@dataclass(frozen=True, slots=True)
class Stepwise:
    """`worst` relative error of a float operator; `wrong` of `quantized` integer values differ."""

    worst: float
    wrong: int
    quantized: int


def stepwise(path: Path, images: Tensor) -> Stepwise:
    """Run the file without fusions, then every operator of its twin on what that run holds."""
    proto = onnx.load(path)
    known = {output.name for output in proto.graph.output}
    for name in [name for node in proto.graph.node for name in node.output]:
        if name and name not in known:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    theirs = dict(zip([o.name for o in session.get_outputs()], found, strict=True))
    twin = OnnxArtifact(path).open_twin()
    assert isinstance(twin, OnnxTwin)
    program = twin._program
    names = {slot: value.name for value, slot in program.values.items()}
    worst, wrong, quantized = 0.0, 0, 0
    for step in program.steps:
        slots = list(program.slots)
        slots[program.input] = images
        for slot in step.inputs:
            if slot >= 0 and slots[slot] is None:
                slots[slot] = torch.from_numpy(np.array(theirs[names[slot]]))
        with torch.no_grad():
            execute([step], slots)
        for slot in step.outputs:
            if slot < 0:
                continue
            ours, other = slots[slot].double().numpy(), theirs[names[slot]]
            gap = np.abs(ours - other.astype(np.float64))
            if other.dtype.kind in "iu":
                wrong, quantized = wrong + int((gap > 0).sum()), quantized + gap.size
            elif gap.size:
                worst = max(worst, float(gap.max() / max(np.abs(other).max(), 1e-9)))
    return Stepwise(worst, wrong, quantized)
