"""Pickles of torch archives by an allowlist of what they may import, read without unpickling.

torch's own loader for TorchScript ignores most imports, but every other reader (``torch.load``,
``pickle``, inspection tools) acts on them; a harmless archive needs none outside the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from auditor.artifacts.torch_archive import Pickle, TorchArchive
from auditor.artifacts.torch_tensors import as_tensor, walk
from auditor.artifacts.torch_unpickle import Call, Global
from auditor.checks.file.rules import finding, register
from auditor.checks.file.torch_common import EITHER, archive_of, pickles
from auditor.checks.interface import FileCheck, FileContext, Rule
from auditor.errors import UnreadableArtifact
from auditor.findings import Finding, Outcome, Severity

DANGER = Rule(
    "torch.pickle.code",
    "A pickle in the archive runs code when it is read",
    Severity.CRITICAL,
    "Unpickling it calls the named function with the given arguments, with your rights.",
    "Do not load this file with anything. Keep it for analysis and warn the supplier.",
    EITHER,
    cwe="CWE-502",
    example="data.pkl that calls os.system('…') before it builds the model.",
    blocks_run=True,
)
FOREIGN = Rule(
    "torch.pickle.import",
    "A pickle in the archive imports something no model needs",
    Severity.HIGH,
    "Unpickling imports and may call it: code outside the archive runs because the file says so.",
    "Load it only if you know the module named; ask the supplier why it is there.",
    EITHER,
    cwe="CWE-502",
    example="data.pkl that refers to mypackage.layers.Custom.",
    blocks_run=True,
)
BROKEN = Rule(
    "torch.pickle.broken",
    "A pickle in the archive cannot be read to its end",
    Severity.MEDIUM,
    "What comes after the broken place cannot be audited; a real loader acts until it gets there.",
    "Ask for an intact file.",
    EITHER,
    cwe="CWE-20",
    example="data.pkl that ends without STOP.",
)
EXTRA = Rule(
    "torch.pickle.trailing",
    "Bytes follow the end of a pickle",
    Severity.MEDIUM,
    "Readers stop at the pickle's end; what follows is invisible to them and may be a payload.",
    "Find out what the bytes are, or save the model anew.",
    EITHER,
    cwe="CWE-506",
    example="A second pickle after the STOP of data.pkl.",
)
TENSOR = Rule(
    "torch.tensor.bounds",
    "A tensor contradicts the bytes it is stored in",
    Severity.MEDIUM,
    "Sizes and strides reach past the stored bytes: readers that do not check read foreign memory.",
    "Treat the file as damaged or forged.",
    ("torchscript",),
    cwe="CWE-125",
    example="A (1000, 1000) weight over 40 stored bytes.",
)
RULES = (DANGER, FOREIGN, BROKEN, EXTRA, TENSOR)
register(*RULES)

_ALLOWED = re.compile(
    r"""
    __torch__(\.\w+)*                              # scripted classes, code inside the archive
    | collections\.OrderedDict | collections\.defaultdict
    | builtins\.(set|frozenset|complex|slice|range|bytearray|list|dict|tuple|int|float|bool|str)
    | _codecs\.encode
    | copyreg\._reconstructor | builtins\.object
    | torch\.\w*Storage | torch\.storage\.(Untyped|Typed)Storage
    | torch\.(Size|Tensor|device|layout|memory_format|dtype)
    | torch\.(q?u?int\d+|float\d+\w*|bfloat16|complex\d+|bool|half|double|long|short|uint8)
    | torch\.(strided|sparse_coo|sparse_csr|contiguous_format|channels_last|preserve_format)
    | torch\.per_(tensor|channel)_(affine|symmetric)(_float_qparams)?
    | torch\._utils\._rebuild_\w+ | torch\._tensor\._rebuild_from_type_v2
    | torch\.serialization\._get_layout
    | torch\.nn\.parameter\.(Parameter|Buffer)
    | torch\.jit\._pickle\.(build_\w+|restore_type_tag)
    | numpy\.(dtype|ndarray) | numpy\._?core\.multiarray\.(_reconstruct|scalar)
    | numpy\._?core\.numeric\._frombuffer
    | numpy\.dtypes\.\w+DType
    """,
    re.VERBOSE | re.ASCII,
)
_DANGEROUS_ROOTS = frozenset(
    """os posix nt posixpath ntpath subprocess sys pty commands shutil socket ssl ctypes _ctypes
    cffi importlib imp runpy code codeop pdb bdb profile cProfile timeit trace doctest
    pickle _pickle cloudpickle dill joblib marshal shelve types functools operator _operator
    inspect gc signal threading multiprocessing asyncio concurrent http urllib urllib2
    urllib3 requests httpx ftplib smtplib telnetlib webbrowser xmlrpc socketserver tempfile
    pathlib io _io zipimport zipfile tarfile site sysconfig setuptools distutils pip pkgutil
    pydoc venv ensurepip idlelib lib2to3 test unittest antigravity logging atexit weakref
    builtins __builtin__ __main__ fileinput glob linecache mmap fcntl resource sqlite3
    platform getpass winreg msilib _winapi nturl2path _posixsubprocess _osx_support
    _aix_support _pyrepl""".split()  # noqa: SIM905 - one name a line would hide the list
)
_DANGEROUS = re.compile(
    r"torch\.(load|save|hub|jit\.(load|save|_?script|unused)|ops|classes|utils|package|multiprocessing"
    r"|distributed|compile|_dynamo|_inductor|testing|serialization\.(load|save)|storage\._load"
    r"|os\b|sys\b|_C\b|fx\b|overrides\b|nn\.modules\.module|_tensor\.\w*os\b)|numpy\.(load|save|testing"
    r"|f2py|distutils|lib\.npyio|fromfile|memmap|loadtxt|genfromtxt|ctypeslib)"
)


def verdict_of(name: Global) -> Rule | None:
    """The rule an imported name breaks, or None when models may use it."""
    full = name.full
    if len(full) < 500 and _ALLOWED.fullmatch(full):
        return None
    root = full.partition(".")[0]
    if root in _DANGEROUS_ROOTS or "?" in full or _DANGEROUS.match(full):
        return DANGER
    return FOREIGN


def pickle_findings(member: str, pickle: Pickle) -> Iterator[Finding]:
    """Findings of one pickle: imports outside the list, a broken end, bytes after it."""
    names: dict[str, Global] = {}
    for seen in (*pickle.globals, *(c.function for c in pickle.calls)):
        if isinstance(seen, Global):
            names.setdefault(seen.full, seen)
    hits = [(name, rule) for name in names.values() if (rule := verdict_of(name))]
    computed = sum(not isinstance(call.function, Global) for call in pickle.calls)
    for name, rule in hits[:20]:
        yield finding(rule, _evidence(name, pickle), location=member)
    if computed:
        yield finding(DANGER, f"{computed} calls of a computed function", location=member)
    if pickle.error:
        yield finding(BROKEN, f"{member}: {pickle.error}", location=member)


def _evidence(name: Global, pickle: Pickle) -> str:
    for call in pickle.calls:
        if isinstance(call.function, Global) and call.function.full == name.full:
            return f"calls {name.full}{_arguments(call)}"
    return f"imports {name.full}"


def _arguments(call: Call) -> str:
    args = call.args if isinstance(call.args, tuple) else (call.args,)
    shown = [repr(a)[:120] if isinstance(a, str | bytes | int | float) else "…" for a in args[:6]]
    return "(" + ", ".join(shown) + ")"


def _trailing(archive: TorchArchive, name: str, pickle: Pickle) -> Iterator[Finding]:
    """Bytes after the STOP of a top-level pickle (debug tables of torch hold exactly one)."""
    member = archive.members.get(name)
    if member is None or pickle.error or not name.endswith(("pkl", ".pickle")):
        return
    extra = member.size - pickle.stop
    if extra > 0:
        yield finding(EXTRA, f"{extra} bytes follow the end of {name}", location=name)


def tensor_findings(archive: TorchArchive) -> Iterator[Finding]:
    """Tensors whose size and strides do not fit the member that holds them."""
    for name, folder in (("data.pkl", "data"), ("constants.pkl", "constants")):
        if name not in archive.members:
            continue
        try:
            root = archive.pickle(name).root
        except UnreadableArtifact:
            continue  # reported as a broken pickle
        for path, node in walk(root):
            stored = as_tensor(node, folder) if isinstance(node, Call) else None
            if stored is None:
                continue
            member = archive.members.get(stored.member)
            width = {"float64": 8, "int64": 8, "float32": 4, "int32": 4}.get(stored.dtype, 1)
            if member is None:
                text = f"{path}: its bytes ({stored.member}) are not in the archive"
            elif stored.extent > stored.numel or stored.numel * width > member.size:
                text = f"{path}: size {list(stored.size)} over {member.size} stored bytes"
            else:
                continue
            yield finding(TENSOR, text, location=path)


class TorchPickleCheck(FileCheck):
    """Every pickle in the archive, also under innocent names and inside nested archives."""

    name = "file.torch.pickle"
    title = "Pickles in the archive"
    doc = (
        "Walks pickle opcodes without unpickling and compares imports and calls with an allowlist "
        "(idea: fickling, Trail of Bits 2021). Wrong when an honest model uses an unlisted class."
    )
    default_severity = Severity.CRITICAL

    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield findings for each pickle and for tensors that contradict their bytes."""
        archive = archive_of(context)
        for member, pickle in pickles(archive):
            if isinstance(pickle, str):
                yield finding(BROKEN, pickle, location=member)
                continue
            yield from pickle_findings(member, pickle)
            yield from _trailing(archive, member, pickle)
        if archive.kind == "torchscript":
            yield from tensor_findings(archive)


CHECKS = (TorchPickleCheck,)
