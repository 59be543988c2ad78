"""Records the ATen calls a torch function makes, below autograd and below every format.

``torch.fx``'s tracer would do, but importing it costs seconds; a dispatch mode costs nothing. It is
the one semi-private torch interface of this package (`torch.utils._python_dispatch`); a test runs
it on plain modules and TorchScript.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class DependsOnValues(Exception):
    """The function's control flow or shapes depend on pixel values."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operator call on values that depend on the image."""

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps every call that touches a tensor computed from `image`; `known` holds those tensors."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The default wraps the method for torch.compile, whose import takes seconds.
        return False

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        # References are kept: an id means a tensor only as long as the tensor lives.
        self.known: dict[int, Tensor] = {id(image): image}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        touched = self._touches([args, named])
        if touched and str(func) in ("aten._local_scalar_dense.default", "aten.nonzero.default"):
            raise DependsOnValues(f"{func} of a value that depends on the image")
        result = func(*args, **named)
        if touched:
            self.calls.append(Call(func, args, named, result))
            for item in result if isinstance(result, tuple | list) else (result,):
                if isinstance(item, Tensor):
                    self.known[id(item)] = item
        return result

    def _touches(self, value: Any) -> bool:
        if isinstance(value, Tensor):
            return id(value) in self.known
        if isinstance(value, list | tuple):
            return any(self._touches(item) for item in value)
        if isinstance(value, dict):
            return any(self._touches(item) for item in value.values())
        return False


def record(function: Callable[[Tensor], Tensor], image: Tensor) -> tuple[list[Call], Tensor]:
    """The calls `function` makes on `image`, in order, and its result.

    Raises `DependsOnValues`, and whatever the function raises.
    """
    with torch.no_grad(), Recorder(image) as recorder:
        result = function(image)
    return recorder.calls, result
