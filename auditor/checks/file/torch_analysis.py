"""One abstract run of an archive's ``forward`` on the values it stores, shared by the checks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from auditor.artifacts.torch_archive import Call, Pickle, TorchArchive
from auditor.artifacts.torch_tensors import StoredTensor, as_tensor, read_tensor
from auditor.checks.file.torch_common import TORCHSCRIPT, archive_of
from auditor.checks.file.torch_flow import Value
from auditor.checks.file.torch_fold import best_label
from auditor.checks.file.torch_interp import Interpreter
from auditor.checks.file.torch_machine import Exhausted
from auditor.checks.file.torch_source import parse
from auditor.checks.interface import FileContext, Incomplete
from auditor.errors import UnreadableArtifact

_READ_UP_TO = 4096


def constant_value(archive: TorchArchive, stored: StoredTensor) -> Value:
    """A stored tensor as an abstract constant; small ones are read for the class they favour."""
    value = Value(shape=stored.size)
    if stored.count > _READ_UP_TO or not stored.count:
        return value
    try:
        array = np.asarray(read_tensor(archive, stored), dtype=np.float64)
    except (UnreadableArtifact, ValueError, TypeError):
        return value
    value.zero = not array.any()
    if array.size == 1:
        value.known = float(array.reshape(-1)[0])
    elif array.ndim and array.size == array.shape[-1]:
        value.label = best_label([float(v) for v in array.reshape(-1)])
    return value


def stored_value(archive: TorchArchive, node: object, folder: str = "data") -> Value:
    """A node of data.pkl as an abstract value."""
    if isinstance(node, Call):
        stored = as_tensor(node, folder)
        if stored is not None:
            return constant_value(archive, stored)
        if node.name.startswith("__torch__."):
            return Value(cls=node.name, node=node)
        if (
            node.name.startswith("torch.jit._pickle.")
            and isinstance(node.args, tuple)
            and node.args
        ):
            return stored_value(archive, node.args[0], folder)
        return Value()
    if isinstance(node, list | tuple) and len(node) <= 2000:
        return Value(items=[stored_value(archive, item, folder) for item in node])
    if isinstance(node, dict):
        table = {str(k): stored_value(archive, v, folder) for k, v in list(node.items())[:2000]}
        return Value(table=table)
    if node is None or isinstance(node, bool | int | float | str):
        return Value(known=node)
    return Value()


class Analysis:
    """One abstract run of an archive's ``forward``."""

    def __init__(self, archive: TorchArchive) -> None:
        self.archive = archive
        self.program = parse(archive.code())
        self.constants = self._pickle("constants.pkl")
        self.root = self._pickle("data.pkl")
        self.interpreter = Interpreter(self.program, self._constant, self._stored)
        self.complete = ""
        self.entry = self._entry()
        self._run()

    def _pickle(self, name: str) -> Pickle | None:
        try:
            return self.archive.pickle(name) if name in self.archive.members else None
        except UnreadableArtifact:
            return None

    def _constant(self, name: str) -> Value:
        items = self.constants.root if self.constants else None
        index = int(name[1:]) if name[1:].isdecimal() and len(name) < 8 else -1
        if not isinstance(items, tuple | list) or not 0 <= index < len(items):
            return Value()
        return stored_value(self.archive, items[index], "constants")

    def _stored(self, node: object) -> Value:
        return stored_value(self.archive, node)

    def _entry(self) -> str:
        root = self.root.root if self.root else None
        name = root.name if isinstance(root, Call) else ""
        if name in self.program.classes:
            return name
        used = {t for c in self.program.classes.values() for t in c.fields.values()}
        free = [
            n for n, c in self.program.classes.items() if n not in used and "forward" in c.methods
        ]
        return free[0] if free else ""

    def _run(self) -> None:
        script = self.program.classes.get(self.entry)
        if script is None or "forward" not in script.methods:
            self.complete = "the archive's forward method was not found"
            return
        node = self.root.root if self.root else None
        owner = Value(cls=self.entry, node=node if isinstance(node, Call) else None)
        parameters = script.methods["forward"].node.args.args[1:]
        inputs = [Value(depth=0, trail=(f"input {p.arg}",)) for p in parameters]
        try:
            self.interpreter.call(script.methods["forward"], [owner, *inputs], {})
        except Exhausted:
            self.complete = "the code is longer than the analysis follows"
        except RecursionError:
            self.complete = "the code nests deeper than the analysis follows"
        if self.interpreter.cut:
            self.complete = self.complete or "calls nest deeper than the analysis follows"


def analysis_of(context: FileContext) -> Analysis:
    """The abstract run of the archive. Raises `Skipped` on other formats, `Incomplete`."""
    archive = archive_of(context, *TORCHSCRIPT)
    try:
        return _analyse(archive)
    except UnreadableArtifact as error:
        raise Incomplete(f"the code cannot be read: {error}") from None


@lru_cache(maxsize=2)
def _analyse(archive: TorchArchive) -> Analysis:
    return Analysis(archive)
