"""The ``.pt2`` twin: the fx graph of `torch.export`, run node by node with named parameters."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node, map_arg

from auditor.twin.aten_record import Recorder
from auditor.twin.interface import NoTwin
from auditor.twin.interpreted import WEIGHTED, InterpretedTwin, flatten, numbered, value_name
from auditor.twin.torchscript.ops import batch_norm

_SIDE_EFFECTS = frozenset({"save", "load", "from_file", "manual_seed", "set_data"})


class ExportedTwin(InterpretedTwin):
    """See `auditor.twin.interface.Twin`. Parameter names are those of the exported state dict;
    lifted constants are called ``constants.<name>``, as `Artifact.write` takes them."""

    def __init__(
        self, program: Any, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        super().__init__(dtype, device)
        self._program = program
        graph = program.graph_module.graph
        self._nodes = list(graph.nodes)
        self._inputs: dict[Node, str] = {}
        self._fixed: dict[Node, Any] = {}
        self.parameters: dict[str, Tensor] = {}
        stored = program.state_dict.values()
        self.reduced_precision = any(v.is_floating_point() and v.itemsize < 4 for v in stored)
        self._image, self._static = self._bind_inputs(graph)
        self._outputs_kept = _user_outputs(program)
        self._calls = {node: self._callable(node) for node in self._nodes}
        self._targets = dict(numbered(self._base_names()))
        self._names = {node: name for name, node in self._targets.items()}
        self._mutates = any(_op(node).endswith("_") for node in self._targets.values())

    def to(self, dtype: torch.dtype) -> ExportedTwin:
        """The same twin computing in `dtype` (float64 for finite differences)."""
        other = ExportedTwin(self._program, dtype=dtype, device=self._device)
        self._copy_state_to(other)
        return other

    def _bind_inputs(self, graph: Any) -> tuple[Node, tuple[Any, ...]]:
        """Sort the placeholders into parameters, constants and the one image."""
        stored = {**self._program.constants, **self._program.state_dict}
        persistent = self._program.state_dict
        images: list[Node] = []
        placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        for node, spec in zip(placeholders, self._program.graph_signature.input_specs, strict=True):
            if spec.kind.name == "USER_INPUT":
                if isinstance(node.meta.get("val"), Tensor):
                    images.append(node)
                else:
                    self._fixed[node] = getattr(spec.arg, "value", None)
                continue
            value = stored.get(spec.target)
            if isinstance(value, Tensor) and value.is_floating_point() and value.dim():
                name = spec.target if spec.target in persistent else f"constants.{spec.target}"
                known = self._alias(value, persistent) or name
                self.parameters.setdefault(known, self._compute(value))
                self._inputs[node] = known
            else:
                self._fixed[node] = self._compute(value) if isinstance(value, Tensor) else value
        if len(images) != 1:
            raise NoTwin(f"the program takes {len(images)} tensors, not one image")
        return images[0], tuple(images[0].meta["val"].shape)

    def _alias(self, value: Tensor, persistent: Mapping[str, Any]) -> str | None:
        """The first name under which a tied tensor is stored."""
        for name, other in persistent.items():
            same = isinstance(other, Tensor) and other.data_ptr() == value.data_ptr()
            if same and other.shape == value.shape and other.stride() == value.stride():
                return name
        return None

    def _compute(self, value: Tensor) -> Tensor:
        value = value.detach().to(self._device)
        return value.to(self._dtype) if value.is_floating_point() else value

    def _callable(self, node: Node) -> Callable[..., Any] | None:
        if node.op in ("placeholder", "output"):
            return None
        if node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(self._program.graph_module)
            if not isinstance(value, Tensor):
                raise NoTwin("the program holds a nested graph (control flow)")
            kept = self._compute(value)
            return lambda: kept
        target = node.target
        if isinstance(target, torch._ops.OpOverload):
            space, name = target.namespace, _op(node)
            if space != "aten" or name in _SIDE_EFFECTS:
                raise NoTwin(f"the program uses {space}::{name}, which the twin does not run")
            if name.startswith("_assert") or name.startswith("sym_constrain"):
                return lambda *_, **__: None
            if target is torch.ops.aten.batch_norm.default:
                return batch_norm
            if target is torch.ops.aten.view.default:
                return lambda x, size: x.reshape(size)
            return target
        if callable(target) and getattr(target, "__module__", "") in ("_operator", "math", "torch"):
            return target
        raise NoTwin(f"the program uses {target}, which the twin does not run")

    def _base_names(self) -> Iterator[tuple[str, Node]]:
        for node in self._nodes:
            if node.op != "call_function":
                continue
            op = _op(node).rstrip("_")
            where = WEIGHTED.get(op, len(node.args))
            weight = node.args[where] if where < len(node.args) else None
            name = self._inputs.get(weight, "") if isinstance(weight, Node) else ""
            yield value_name(op, _path(node), name), node

    def _has(self, name: str) -> bool:
        return name in self._targets

    def _rows(self, shape: tuple[int, ...]) -> int | None:
        static = self._static
        if _fits(static[1:], shape):
            return static[0] if isinstance(static[0], int) else 0
        if _fits(static, shape):
            return -1
        return super()._rows(shape)

    def _discover(self) -> tuple[tuple[int, ...], int]:
        def known(sizes: Sequence[Any]) -> tuple[int, ...]:
            return tuple(n if isinstance(n, int) else n.node.hint or 32 for n in sizes)

        shape = known(self._static[1:])
        unbatched = len(self._static) < 2 or not self._rowwise()
        shape = known(self._static) if unbatched else shape
        rows = self._rows(shape)
        if rows is None:
            raise NoTwin(self._refusal(shape))
        return shape, rows

    def _rowwise(self) -> bool:
        """True when the output has the input's first axis: then that axis is the batch."""
        found = flatten([n.meta.get("val") for n in self._nodes[-1].all_input_nodes])
        return any(v.dim() > 1 and str(v.shape[0]) == str(self._static[0]) for v in found)

    def _adapt(self, value: Any) -> Any:
        """Constants of the graph on this device and in the compute dtype."""
        if isinstance(value, torch.dtype) and value.is_floating_point:
            return self._dtype
        return torch.device(self._device) if isinstance(value, torch.device) else value

    def _walk(
        self,
        x: Tensor,
        values: Mapping[str, Tensor],
        watch: Callable[[Node, tuple[Any, ...], Any], Any] | None,
    ) -> list[Tensor]:
        env: dict[Node, Any] = dict(self._fixed)
        env.update((node, values[name]) for node, name in self._inputs.items())
        # An in-place first operator must touch neither the caller's batch nor an autograd leaf.
        env[self._image] = x.clone() if self._mutates else x
        for node in self._nodes:
            call = self._calls[node]
            if call is None:
                continue
            arguments = tuple(map_arg(node.args, env.__getitem__))
            keywords = map_arg(node.kwargs, env.__getitem__)
            if node.op == "call_function":
                arguments = tuple(self._adapt(a) for a in arguments)
                keywords = {key: self._adapt(a) for key, a in keywords.items()}
            result = call(*arguments, **keywords)
            if watch is not None and node in self._names:
                result = watch(node, arguments, result)
            env[node] = result
        results = map_arg(self._nodes[-1].args[0], env.__getitem__)
        return flatten([results[i] for i in self._outputs_kept])

    def _execute(
        self, x: Tensor, values: Mapping[str, Tensor], wanted: Sequence[str]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        found: dict[str, Tensor] = {}
        names = set(wanted)

        def watch(node: Node, _: tuple[Any, ...], result: Any) -> Any:
            name = self._names[node]
            if name in names:
                found[name] = result if isinstance(result, Tensor) else result[0]
                if self._mutates and isinstance(result, Tensor):
                    return result.clone()
            return result

        return self._walk(x, values, watch if wanted else None), found

    def _trace(self, x: Tensor, recorder: Recorder) -> list[Tensor]:
        def watch(node: Node, arguments: tuple[Any, ...], result: Any) -> Any:
            kind = f"aten.{_op(node)}"
            recorder.add(self._names[node], kind, _path(node), arguments, result)
            return result

        return self._walk(x, self.parameters, watch)


def open_twin(program: Any, *, device: str = "cpu") -> ExportedTwin:
    """The twin of a loaded ``ExportedProgram``. Raises `NoTwin` naming what is in the way."""
    return ExportedTwin(program, device=device)


def _user_outputs(program: Any) -> list[int]:
    specs = program.graph_signature.output_specs
    return [i for i, spec in enumerate(specs) if spec.kind.name == "USER_OUTPUT"]


def _op(node: Node) -> str:
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target._schema.name.partition("::")[2])
    return str(getattr(target, "__name__", target))


def _path(node: Node) -> str:
    """Dotted path of the innermost module the node came from."""
    stack = node.meta.get("nn_module_stack") or {}
    last = list(stack.values())[-1][0] if stack else ""
    return str(last)


def _fits(static: Sequence[Any], shape: Sequence[int]) -> bool:
    return len(static) == len(shape) and all(
        not isinstance(want, int) or want == have for want, have in zip(static, shape, strict=True)
    )
