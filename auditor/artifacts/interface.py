"""What every model file format offers: describe, run, differentiate, edit. One file a format.

`describe` and everything in `Description` come from parsing alone: nothing of the artifact is
executed. `open_runtime` and `open_twin` load it for running and are called only in the sandbox
child (`auditor.sandbox`). `write` edits bytes; it never executes the artifact either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from numpy.typing import NDArray

if TYPE_CHECKING:
    from auditor.twin.interface import Twin

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output: `shape` holds sizes, axis names, or None where unknown."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, slots=True)
class FileDigest:
    """`sha256` of one file of the artifact; `name` is relative to the model's folder."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Description:
    """What the file is, read without running it.

    `files` lists the model file first, then each external data file. `operators` counts operator
    types (``"com.microsoft::QLinearAdd"`` outside the default domain). `version` is the opset
    (ONNX) or archive version. `extra` holds format-specific facts for ``audit inspect``.
    """

    format: str
    files: tuple[FileDigest, ...]
    producer: str
    version: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: int
    operators: Mapping[str, int]
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Digest of the model file itself."""
        return self.files[0].sha256


class Runtime(ABC):
    """The artifact running natively (ONNX Runtime, torch.jit). Lives in the child only."""

    notice: str = ""
    """A sentence for the report where the file does not run exactly as it is."""

    @property
    @abstractmethod
    def input(self) -> TensorInfo:
        """The one image input. Raises `UnsupportedArtifact` when there is not exactly one."""

    @abstractmethod
    def run(self, batch: Array) -> tuple[Array, ...]:
        """Run on `batch` as given (layout and dtype of the native input); every output, in order.

        A fixed or unbatched native batch size is handled here (looped or re-batched): callers pass
        any N. Raises whatever the runtime raises.
        """


class Artifact(ABC):
    """One model file, parsed. Create with `auditor.open_artifact`."""

    format: ClassVar[str]
    """``onnx``, ``torchscript`` or ``pt2``: stands in reports."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def describe(self) -> Description:
        """Parse (cached); hash streamed. Raises `UnreadableArtifact`."""

    @abstractmethod
    def open_runtime(self, *, threads: int = 1) -> Runtime:
        """Load for native running. Child only."""

    @abstractmethod
    def open_twin(self, *, device: str = "cpu") -> Twin:
        """Load as a differentiable torch function sharing the artifact's parameter names.

        Child only. Raises `auditor.twin.interface.NoTwin` with a sentence that names what is
        missing (the operator, the construct).
        """

    @abstractmethod
    def write(
        self, path: Path, changes: Mapping[str, Array], provenance: Mapping[str, str]
    ) -> tuple[Path, ...]:
        """Write a copy to `path` in which only the named parameters differ, plus `provenance`.

        `changes` maps parameter names to arrays of the stored shape (dtype is cast to the stored
        one). Everything else stays byte for byte (ONNX: one metadata entry is added; external data
        goes beside as ``<path name>.data``). Written to temporary files, then renamed. Returns all
        files written. Raises `KeyError` for an unknown name, `ValueError` for a wrong shape or
        a parameter stored in a type that holds no weights.
        """
