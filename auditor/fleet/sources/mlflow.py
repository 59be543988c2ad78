"""Models of an MLflow registry: ``models:/name/3``, ``models:/name@alias``, ``runs:/ID/path``.

The tracking server is the one the environment names (MLFLOW_TRACKING_URI, MLFLOW_REGISTRY_URI, and
its credentials). A registered model is a folder; which of its files is a model, only the fetched
file tells.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        artifacts = self._artifacts()
        try:
            files = sorted(_files(artifacts, self.text), key=lambda f: str(f.path))
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
            got = self._artifacts().download_artifacts(
                artifact_uri=f"{self.text.rstrip('/')}/{path}", dst_path=str(folder)
            )
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

    def _artifacts(self) -> Any:
        try:
            from mlflow import artifacts
        except ImportError as error:
            raise SourceError(
                f"{self.text} needs MLflow ({error}); pip install 'model-auditor[mlflow]'"
            ) from None
        return artifacts


def _files(artifacts: Any, uri: str, below: str = "") -> Iterator[Any]:
    """Every file under `uri`, paths relative to it."""
    place = f"{uri.rstrip('/')}/{below}" if below else uri
    for entry in artifacts.list_artifacts(artifact_uri=place):
        if entry.is_dir:
            yield from _files(artifacts, uri, entry.path)
        else:
            yield entry
