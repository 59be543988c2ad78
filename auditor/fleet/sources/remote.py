"""Anything fsspec can open: ``s3://``, ``hf://``, ``gs://``, ``abfs://``, ``https://``, ``sftp://``.

Credentials come from where each library looks for them (AWS_ACCESS_KEY_ID, AWS_PROFILE, HF_TOKEN,
GOOGLE_APPLICATION_CREDENTIALS, ...). What a file is, is told from its first 64 KiB, asked for in
batches; the worker fetches the whole file itself.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from urllib.parse import urlsplit

from auditor.fleet.discovery import HEAD, classify_head
from auditor.fleet.interface import Found, Known, Passed, Sighting, Source, SourceError, Unfound
from auditor.fleet.redact import redacted, shown_url

BATCH = 32
_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "hf": "hf",
}
_STAMPS = ("ETag", "etag", "lfs", "blob_id", "oid", "md5Hash", "content_md5", "last_modified")
_STAMPS_TOO = ("LastModified", "mtime", "updated", "created")
_MAGIC = "*?["


class RemoteSource(Source):
    """A URL: of one file, of a folder (everything below it), or with a pattern in it."""

    name: ClassVar[str] = "remote"
    order: ClassVar[int] = 30

    @classmethod
    def accepts(cls, text: str) -> bool:
        """``scheme://`` and something."""
        scheme, mark, rest = text.partition("://")
        return bool(mark and rest) and scheme.replace("+", "").replace("-", "").isalnum()

    def find(self, known: Known) -> Iterator[Sighting]:
        """See `Source.find`."""
        shown = shown_url(self.text)
        try:
            fs, top = self._open()
            entries = self._entries(fs, top)
        except SourceError:
            raise
        except Exception as error:  # whatever the library of that place raises
            raise SourceError(f"{shown} cannot be reached: {_say(error)}") from None
        if not entries:
            raise SourceError(f"there is nothing at {shown}")
        rest = iter(entries)
        while batch := list(islice(rest, BATCH)):
            yield from self._sniff(fs, batch, known, alone=len(entries) == 1)

    def fetch(self, path: str, folder: Path) -> Path:
        """Download into `folder` under its own name."""
        name = PurePosixPath(path).name or "model"
        local = folder / name
        if not self._get(path, local):
            raise SourceError(f"{self._shown(path)} is gone")
        return local

    def fetch_beside(self, path: str, name: str, folder: Path) -> bool:
        """See `Source.fetch_beside`."""
        beside = str(PurePosixPath(path).parent / name)
        local = folder / name
        local.parent.mkdir(parents=True, exist_ok=True)
        return self._get(beside, local)

    def _get(self, path: str, local: Path) -> bool:
        try:
            fs, _ = self._open()
            fs.get_file(path, str(local))
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise SourceError(
                    f"no space left for {local.name} in the worker's temporary folder (TMPDIR)"
                ) from None
            raise SourceError(f"{self._shown(path)} cannot be fetched: {_say(error)}") from None
        except Exception as error:
            raise SourceError(f"{self._shown(path)} cannot be fetched: {_say(error)}") from None
        return local.is_file()

    def _open(self) -> tuple[Any, str]:
        """The file system and the path in it. Raises `SourceError` for a missing library."""
        scheme = urlsplit(self.text).scheme
        try:
            from fsspec.core import url_to_fs

            fs, path = url_to_fs(self.text)
        except ImportError as error:
            extra = _EXTRAS.get(scheme)
            how = f"pip install 'model-auditor[{extra}]'" if extra else "install what it names"
            raise SourceError(f"{scheme}:// needs another library ({error}); {how}") from None
        except ValueError as error:
            raise SourceError(f"{shown_url(self.text)}: {redacted(str(error))}") from None
        fs.invalidate_cache()
        return fs, str(path)

    def _entries(self, fs: Any, top: str) -> list[dict[str, Any]]:
        """name, size, ... of every file, sorted by name."""
        if any(letter in top for letter in _MAGIC):
            found = fs.glob(top, detail=True)
        else:
            found = fs.find(top, detail=True)
            if not found and fs.isfile(top):
                found = {top: fs.info(top)}
        return [
            {**about, "name": name}
            for name, about in sorted(found.items())
            if about.get("type", "file") == "file"
        ]

    def _sniff(
        self, fs: Any, batch: Sequence[dict[str, Any]], known: Known, *, alone: bool
    ) -> Iterator[Sighting]:
        """Look at the heads of those not known yet, all in one go."""
        about = [(b["name"], _size(b), _stamp(b)) for b in batch]
        fresh = {
            name: size
            for name, size, stamp in about
            if not (stamp and known(self._shown(name), stamp))
        }
        # A place that does not tell sizes is asked; one that says "empty" is believed.
        heads: dict[str, Any] = dict.fromkeys((n for n, size in fresh.items() if size == 0), b"")
        paths = [name for name, size in fresh.items() if size != 0]
        ends = [min(HEAD, fresh[name]) if fresh[name] > 0 else HEAD for name in paths]
        if paths:
            try:
                pieces = fs.cat_ranges(paths, [0] * len(paths), ends, on_error="return")
            except Exception as error:
                pieces = [error] * len(paths)
            heads |= dict(zip(paths, pieces, strict=True))
        for name, size, stamp in about:
            uri = self._shown(name)
            head = heads.get(name, b"")
            if isinstance(head, Exception):
                yield Unfound(uri, f"cannot be read: {_say(head)}")
                continue
            reason, sure = "", True
            if name in heads and not alone:
                reason, sure = classify_head(name, head[:HEAD], max(size, len(head)))
            if reason:
                yield Passed(uri, reason)
            else:
                yield Found(uri, self.text, name, max(size, 0), stamp, sure)

    def _shown(self, path: str) -> str:
        if path.startswith(("http://", "https://")):
            return shown_url(path)
        return f"{urlsplit(self.text).scheme}://{path.lstrip('/')}"


def _size(about: dict[str, Any]) -> int:
    """In bytes; -1 when the place does not say."""
    size = about.get("size")
    return int(size) if size is not None else -1


def _stamp(about: dict[str, Any]) -> str:
    """What tells this content from another, as the place itself says it."""
    for names in (_STAMPS, _STAMPS_TOO):
        for name in names:
            value = about.get(name)
            if isinstance(value, dict):
                value = value.get("sha256") or value.get("oid")
            value = getattr(value, "sha256", value)
            if value:
                return f"{about.get('size')}:{value}"
    return ""


def _say(error: BaseException) -> str:
    """A library's error in one redacted line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return redacted(text)[:300]
