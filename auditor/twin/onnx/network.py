"""The ONNX twin itself: runs a compiled program on batches of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from auditor.artifacts.onnx_load import all_nodes, all_tensors
from auditor.twin.interface import Layer, NoTwin, Twin, TwinRun
from auditor.twin.onnx.batching import (
    agree,
    declared_shape,
    filled,
    joined,
    merge,
    per_sample,
    whole_numbers,
)
from auditor.twin.onnx.frontend import compile_model, image_input
from auditor.twin.onnx.layers import Shapes, Structure, describe_structure
from auditor.twin.onnx.program import Step, by_shape, constants, execute, keeping, plan_releases

_KEPT_SHAPES = 4
_GUESSED_SIDES = (224, 32, 28, 64, 96, 128, 256, 299)


class OnnxTwin(Twin):
    """An ONNX graph, operator by operator in torch.

    Stored floats of any width are exposed and computed in `dtype`. `batching` says how a batch is
    run: ``direct``, ``vmap`` (a graph with a fixed batch of one, mapped over samples) or ``loop``.
    Raises `NoTwin`.
    """

    def __init__(
        self, model: ir.Model, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        self._model = model
        self.dtype = dtype
        self.device = torch.device(device)
        image = image_input(model)
        self._declared = declared_shape(image)
        self._whole = whole_numbers(image)
        self._program = compile_model(model, dtype=dtype, device=self.device)
        self.parameters = {
            name: self._program.slots[slot] for name, slot in self._program.parameters.items()
        }
        self.without_gradient = self._program.without_gradient
        self.reduced_precision = _rounds_inside(model)
        self._plans: dict[tuple[Any, ...], tuple[list[Any], list[Step]]] = {}
        self.batching = "direct"
        shapes = self._settle()
        self.image_shape: tuple[int, ...] | None = shapes.get(self._program.input)
        self._structure: Structure = describe_structure(self._program, shapes)
        self.layers: Sequence[Layer] = self._structure.layers
        self.tail = self._structure.tail
        self.features = self._structure.features

    @property
    def head(self) -> Layer | None:
        """The last dense (or conv) layer, when it gives one score per class."""
        return self._structure.head

    def to(self, dtype: torch.dtype) -> OnnxTwin:
        """The same twin computing in `dtype` (``torch.float64`` for finite differences)."""
        return OnnxTwin(self._model, dtype=dtype, device=str(self.device))

    def run(
        self,
        batch: Tensor,
        *,
        wanted: Sequence[str] = (),
        parameters: Mapping[str, Tensor] | None = None,
    ) -> TwinRun:
        """See `Twin.run`."""
        replaced = dict(parameters or {})
        for name in replaced:
            self._program.parameters[name]
        structure = self._structure
        inner = [structure.slots[name] for name in wanted]
        slots = [*self._program.outputs, structure.logits, *inner]
        batch = batch.to(device=self.device, dtype=self.dtype)
        if self._whole is not None:  # the file takes integers: rounded, gradients straight through
            batch = batch + (batch.round().clamp(*self._whole) - batch).detach()
        results = self._batched(batch, slots, replaced)
        count = len(self._program.outputs)
        logits = results[count]
        if logits.dim() != 2 and logits.dim() and logits.shape[0] == batch.shape[0]:
            logits = logits.reshape(batch.shape[0], -1)
        values = dict(zip(wanted, results[count + 1 :], strict=True))
        return TwinRun(tuple(results[:count]), logits, values)

    def _batched(
        self, batch: Tensor, slots: list[int], replaced: Mapping[str, Tensor]
    ) -> list[Tensor]:
        if self._declared is not None and batch.dim() == len(self._declared) + 1:
            alone = [self._direct(sample, slots, replaced) for sample in batch]
            return [torch.stack(values) for values in zip(*alone, strict=True)]
        if self.batching == "direct":
            return self._direct(batch, slots, replaced)
        size = self._fixed_batch or 1
        if self.batching == "vmap":

            def single(sample: Tensor) -> tuple[Tensor, ...]:
                return tuple(self._direct(sample.unsqueeze(0), slots, replaced))

            mapped = torch.func.vmap(single)(batch)
            return [merge(value) for value in mapped]
        parts = [
            self._direct(filled(batch[at : at + size], size), slots, replaced)
            for at in range(0, len(batch), size)
        ]
        return [joined([part[i] for part in parts], len(batch), size) for i in range(len(slots))]

    def _direct(
        self, batch: Tensor, slots: list[int], replaced: Mapping[str, Tensor]
    ) -> list[Tensor]:
        """Run the graph once on `batch` as it is."""
        key = tuple(batch.shape)
        known = self._plans.get(key)
        template, steps = known or (self._program.slots, self._program.steps)
        values = list(template)
        if replaced:
            self._replace(values, replaced)
        values[self._program.input] = batch
        if known is None:
            plan_releases(steps, self._kept | set(slots) | constants(values) | by_shape(steps))
            execute(steps, values)
            self._remember(key, values)
        elif set(slots) <= self._kept:
            execute(steps, values)
        else:
            execute(keeping(steps, set(slots)), values)
        return [values[slot] for slot in slots]

    def _replace(self, values: list[Any], replaced: Mapping[str, Tensor]) -> None:
        """Put replacements in place and recompute what was derived from the stored ones."""
        for name, tensor in replaced.items():
            stored = self.parameters[name]
            if tuple(tensor.shape) != tuple(stored.shape):
                raise ValueError(
                    f"Parameter {name!r} is {tuple(stored.shape)}, not {tuple(tensor.shape)}."
                )
            slot = self._program.parameters[name]
            values[slot] = tensor.to(device=self.device, dtype=self.dtype)
        names = frozenset(replaced)
        execute((step for step in self._program.derived if step.roots & names), values)

    def _remember(self, key: tuple[Any, ...], values: list[Any]) -> None:
        """Keep what depends on the batch's shape alone: later runs skip those steps."""
        template = list(self._program.slots)
        steps = []
        for step in self._program.steps:
            if step.data or step.roots or not step.shape:
                steps.append(
                    Step(
                        step.function,
                        step.node,
                        step.inputs,
                        step.outputs,
                        step.data,
                        step.shape,
                        step.roots,
                        blocks=step.blocks,
                    )
                )
            else:
                for slot in step.outputs:
                    template[slot] = values[slot]
        plan_releases(steps, self._kept | constants(template))
        if len(self._plans) >= _KEPT_SHAPES:
            self._plans.pop(next(iter(self._plans)))
        self._plans[key] = (template, steps)

    @property
    def _kept(self) -> set[int]:
        kept = set(self._program.outputs)
        structure = getattr(self, "_structure", None)
        return kept | {structure.logits} if structure is not None else kept

    @property
    def _fixed_batch(self) -> int | None:
        first = self._declared[0] if self._declared else None
        return first if isinstance(first, int) else None

    def _settle(self) -> Shapes:
        """Choose how batches are run, by trying; returns per-sample shapes of batched values."""
        size = self._fixed_batch or 1
        pair = self._example(2)
        first, alone = self._traced(filled(pair, size) if size > 1 else pair[:1])
        direct = self._fixed_batch is None or not any(
            s.blocks and s.data for s in self._program.steps
        )
        reference: list[Tensor] | None = None
        for baked in (None, size) if direct else ():
            self._mark_batch(baked)
            try:
                results, doubled = self._traced(pair)
            except NoTwin:  # not this way, then
                continue
            if self._fixed_batch is not None or baked is not None:
                reference = reference or self._reference(first, pair, size)
                if not agree(results, reference):
                    continue
            return per_sample(alone, doubled, size)
        self._mark_batch(None)
        reference = reference or self._reference(first, pair, size)
        self.batching = "vmap" if size == 1 and self._vmap_works(pair, reference) else "loop"
        self._plans.clear()
        return {slot: shape[1:] for slot, shape in alone.items() if shape[:1] == (size,)}

    def _example(self, count: int) -> Tensor:
        """Unlike random images of the declared shape; unknown sides are guessed by trying."""
        shape = [count, *(self._declared[1:] if self._declared else (3, None, None))]
        if all(isinstance(side, int) for side in shape):
            return self._noise(shape)
        problem = ""
        for side in _GUESSED_SIDES:
            full = [s if isinstance(s, int) else side for s in shape]
            if len(full) == 4 and shape[1] is None and shape[3] is None:
                full[1] = 3
            batch = self._noise(full)
            try:
                self._traced(batch[:1])
            except NoTwin as error:  # the next side may fit
                problem = problem or str(error)
                continue
            return batch
        raise NoTwin(f"The input's sides are not declared, and no usual size runs ({problem}).")

    def _noise(self, shape: Sequence[Any]) -> Tensor:
        """Uniform and normal noise in turn: samples that drive a network to different places."""
        generator = torch.Generator().manual_seed(0)
        batch = torch.rand(*shape, generator=generator)
        batch[1::2] = torch.randn(*shape, generator=generator)[1::2]
        return batch.to(device=self.device, dtype=self.dtype)

    def _traced(self, batch: Tensor) -> tuple[list[Tensor], dict[int, tuple[int, ...]]]:
        """Outputs for `batch`, and the shape of every float value that depends on the image.

        Raises `NoTwin` naming the operator that failed.
        """
        values = list(self._program.slots)
        values[self._program.input] = batch
        found = {self._program.input: tuple(batch.shape)}
        plan_releases(self._program.steps, set(self._program.outputs) | constants(values))
        with torch.no_grad():
            for step in self._program.steps:
                release, step.release = step.release, ()
                try:
                    execute([step], values)
                except Exception as error:
                    raise NoTwin(
                        f"{step.node.op} {step.node.name!r}: {_sentence(error)}"
                    ) from error
                finally:
                    step.release = ()
                for slot in step.outputs:
                    value = values[slot] if slot >= 0 else None
                    if isinstance(value, Tensor) and value.is_floating_point() and step.data:
                        found[slot] = tuple(value.shape)
                for slot in release:
                    values[slot] = None
        return [values[slot] for slot in self._program.outputs], found

    def _reference(self, first: list[Tensor], pair: Tensor, size: int) -> list[Tensor]:
        """Outputs for two samples by runs at the declared batch size; `first` is one of them."""
        if size > 1:
            return [value[:2] for value in first]
        second, _ = self._traced(pair[1:])
        if any(not value.dim() for value in first):
            return []
        return [torch.cat(both) for both in zip(first, second, strict=True)]

    def _vmap_works(self, pair: Tensor, reference: list[Tensor]) -> bool:
        self.batching = "vmap"
        try:
            with torch.no_grad():
                results = self._batched(pair, list(self._program.outputs), {})
        except Exception:  # data-dependent control flow cannot be mapped
            return False
        return agree(results, reference)

    def _mark_batch(self, baked: int | None) -> None:
        """Tell reshapes of the image's values which batch size their constants may hold."""
        for step in self._program.steps:
            if step.node.op == "Reshape" and step.data:
                attributes = dict(step.node.attributes)
                attributes["auditor.batch"] = baked
                step.node.attributes = attributes


def open_onnx_twin(model: ir.Model, *, device: str = "cpu") -> OnnxTwin:
    """The twin of `model` in float32. Raises `NoTwin`."""
    return OnnxTwin(model, device=device)


def _rounds_inside(model: ir.Model) -> bool:
    """True when the file computes in half precision or in quantized integers."""
    kinds = {tensor.dtype.name for tensor in all_tensors(model)}
    if kinds & {"FLOAT16", "BFLOAT16"}:
        return True
    names = {node.op_type for node in all_nodes(model)}
    return any("Quantize" in name or "QLinear" in name or "Integer" in name for name in names)


def _sentence(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
