"""Models of an MLflow registry: ``models:/name/3``, ``models:/name@alias``, ``runs:/ID/path``.

The tracking server is the one the environment names (MLFLOW_TRACKING_URI, MLFLOW_REGISTRY_URI, and
its credentials). A registered model is a folder; which of its files is a model, only the fetched
file tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from auditor.fleet.discovery import MODEL_NAMES
from auditor.fleet.interface import Found, Known, Sighting, Source, SourceError
from auditor.fleet.redact import redacted

_SCHEMES = ("models:/", "runs:/", "mlflow-artifacts:/")
_TEXTS = frozenset((".yaml", ".yml", ".txt", ".json", ".md", ".py"))


class MlflowSource(Source):
    """Lists the artifact folder behind the name; workers download single files of it."""

    name: ClassVar[str] = "mlflow"
    order: ClassVar[int] = 20

    @classmethod
    def accepts(cls, text: str) -> bool:
        """The schemes MLflow itself resolves."""
        return text.startswith(_SCHEMES)

    def find(self, known: Known) -> Iterator[Sighting]:
        """See `Source.find`."""
        try:
            files = sorted(_files(self._repository()), key=lambda file: str(file.path))
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(
                f"{self.text} cannot be listed: {redacted(str(error))[:300]}"
            ) from None
        if not files:
            raise SourceError(f"there is nothing at {self.text}")
        for file in files:
            path = PurePosixPath(file.path)
            if path.name == "MLmodel" or path.suffix.lower() in _TEXTS:
                continue
            size = int(file.file_size or 0)
            sure = path.suffix.lower() in MODEL_NAMES
            # A registered version never changes, an alias and a run may: only the worker can tell.
            yield Found(f"{self.text}/{path}", self.text, str(path), size, "", sure)

    def fetch(self, path: str, folder: Path) -> Path:
        """Download one file into `folder`."""
        try:
            got = self._repository().download_artifacts(path, dst_path=str(folder))
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(
                f"{self.text}/{path} cannot be fetched: {redacted(str(error))[:300]}"
            ) from None
        return Path(got)

    def fetch_beside(self, path: str, name: str, folder: Path) -> bool:
        """See `Source.fetch_beside`."""
        try:
            got = self.fetch(str(PurePosixPath(path).parent / name), folder)
        except SourceError:
            return False
        target = folder / name
        if got != target and got.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            got.replace(target)
        return target.is_file()

    def _repository(self) -> Any:
        """MLflow's own view of the folder; paths in it are relative to the name itself."""
        try:
            registry = import_module("mlflow.store.artifact.artifact_repository_registry")
        except ImportError as error:
            raise SourceError(
                f"{self.text} needs MLflow ({error}); pip install 'model-auditor[mlflow]'"
            ) from None
        return registry.get_artifact_repository(self.text)


def _files(repository: Any, below: str | None = None) -> Iterator[Any]:
    """Every file, depth first."""
    for entry in repository.list_artifacts(below):
        if entry.is_dir:
            yield from _files(repository, entry.path)
        else:
            yield entry
