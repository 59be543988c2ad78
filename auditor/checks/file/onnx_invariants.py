"""What every sound model satisfies: finite weights, a valid graph, no dead tensors."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from auditor.checks.file.onnx_graph import Program, captured, load_program, require_onnx
from auditor.checks.file.onnx_tensor_facts import type_name
from auditor.checks.file.onnx_weights import LINEAR, RECURRENT
from auditor.checks.file.onnx_wire import Buffer, TensorFacts, walk_file
from auditor.checks.file.rules import finding, register, shorten
from auditor.checks.interface import FileCheck, FileContext, Rule
from auditor.findings import Finding, Notice, Outcome, Severity

NOT_FINITE = Rule(
    id="tensor.not-finite",
    title="Weights that are not numbers",
    severity=Severity.MEDIUM,
    why="NaN or infinity in a weight makes results depend on the runtime, or NaN for every input.",
    remedy="Ask for a repaired model.",
    formats=("onnx",),
    cwe="CWE-682",
    example="conv1.weight has 3 NaN.",
)
CHECKER = Rule(
    id="model.invalid",
    title="onnx's own checker refuses the model",
    severity=Severity.MEDIUM,
    why="The file breaks the ONNX standard; runtimes may refuse it or read it differently.",
    remedy="Re-export the model; the reason tells what is wrong.",
    formats=("onnx",),
    cwe="CWE-20",
    example="Nodes in a graph must be topologically sorted: input 'x' of Relu is not computed.",
)
UNUSED = Rule(
    id="tensor.unused",
    title="Stored tensors that nothing uses",
    severity=Severity.LOW,
    why="Exporters leave them behind; they can also carry data.",
    remedy="Remove them with any ONNX optimizer.",
    formats=("onnx",),
    example="initializer 'old_bias' is read by no node.",
)
register(NOT_FINITE, CHECKER, UNUSED)

MAX_SCANNED = 1 << 29
FLOATS = {"FLOAT": "<f4", "DOUBLE": "<f8", "FLOAT16": "<f2", "BFLOAT16": "<u2"}
ACCEPTED = (
    "No Op registered",  # operator.unknown-domain tells
    "opset_import for domain",
    "Field 'shape' of 'type' is required",  # an output of unknown shape: every runtime takes it
)
NEWER = ("ir_version", "opset_version", "higher than the checker")


class InvariantCheck(FileCheck):
    """Reports `tensor.not-finite`, `tensor.unused` and `model.invalid`."""

    name = "file.invariants"
    title = "Invariants"
    doc = (
        "Finite weights, a graph that onnx.checker accepts, no unused tensors. Infinite values are "
        "normal in masks and limits and are reported only in weights of layers."
    )
    default_severity = Severity.MEDIUM

    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield findings about tensors and the graph."""
        path = require_onnx(context)
        program = load_program(path)
        yield from _checker(program)
        yield from _unused(program)
        found, data = walk_file(path)
        weights = _weight_names(program)
        budget = MAX_SCANNED
        for tensor in found.tensors:
            if not tensor.path.startswith("model.graph.initializer"):
                continue
            if budget <= 0:
                yield Notice("Only the first 512 MB of weights were searched for NaN and infinity.")
                break
            budget -= sum(length for spans in tensor.spans.values() for _, length in spans)
            item = _finite(tensor, data, tensor.name in weights)
            if item is not None:
                yield item
        if isinstance(data, mmap.mmap):
            data.close()


def _weight_names(program: Program) -> set[str]:
    return {
        name
        for node in program.main.walk()
        if node.op in LINEAR or node.op in RECURRENT or node.op == "BatchNormalization"
        for name in node.data
        if name in program.tensors
    }


def _finite(tensor: TensorFacts, data: Buffer, weight: bool) -> Finding | None:
    kind = FLOATS.get(type_name(tensor.dtype) or "")
    field = "raw_data" if "raw_data" in tensor.spans else "float_data"
    if kind is None or (field == "float_data" and kind != "<f4"):
        return None
    nan = infinite = 0
    for offset, length in tensor.spans.get(field, []):
        size = np.dtype(kind).itemsize
        for at in range(offset, offset + length // size * size, 1 << 22):
            block = bytes(data[at : min(at + (1 << 22), offset + length // size * size)])
            values = np.frombuffer(block, kind)
            bad_nan, bad_inf = _count(values)
            nan, infinite = nan + bad_nan, infinite + bad_inf
            _release(data, at)
    if nan == 0 and (infinite == 0 or not weight):
        return None
    return finding(
        NOT_FINITE,
        f"{tensor.name!r} has {nan:,} NaN and {infinite:,} infinite values.",
        location=tensor.name,
        severity=None if weight else Severity.LOW,
    )


def _count(values: NDArray[Any]) -> tuple[int, int]:
    if values.dtype == np.dtype("<u2"):  # bfloat16: exponent all ones, mantissa tells which
        special = (values & 0x7F80) == 0x7F80
        mantissa = (values & 0x7F) != 0
        return int(np.sum(special & mantissa)), int(np.sum(special & ~mantissa))
    if bool(np.isfinite(values).all()):
        return 0, 0
    return int(np.isnan(values).sum()), int(np.isinf(values).sum())


def _release(data: Buffer, at: int) -> None:
    if isinstance(data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        page = at - at % mmap.PAGESIZE
        data.madvise(mmap.MADV_DONTNEED, page, min(1 << 22, len(data) - page))


def _checker(program: Program) -> Iterator[Finding]:
    if program.skeleton is None:
        return
    try:
        onnx.checker.check_model(program.skeleton)
    except Exception as error:  # ValidationError, and RuntimeError for some functions
        text = " ".join(str(error).split())
        newer = any(word in text for word in NEWER)
        foreign = any(word in text for word in ACCEPTED)
        yield finding(
            CHECKER,
            shorten(text or type(error).__name__, 400),
            severity=Severity.LOW if newer or foreign else None,
        )


def _unused(program: Program) -> Iterator[Finding]:
    used = set(program.consumers) | set(program.main.outputs)
    for node in program.main.walk():
        used.update(captured(node))
        for body in node.bodies.values():
            used.update(body.outputs)
    stored = set(program.model.graph.initializers)
    unused = sorted(stored - used)
    if unused:
        names = ", ".join(repr(shorten(name, 60)) for name in unused[:8])
        more = f" and {len(unused) - 8} more" if len(unused) > 8 else ""
        yield finding(UNUSED, f"{names}{more}: read by no node.", location=unused[0])


CHECKS = (InvariantCheck,)
