"""The operator allowlist: which rule a call in a model's code breaks by its name alone."""

from __future__ import annotations

import re

from auditor.checks.file.rules import register
from auditor.checks.file.torch_common import TORCHSCRIPT
from auditor.checks.file.torch_operators import ATEN, PRIM
from auditor.checks.interface import Rule
from auditor.findings import Severity

FILES = Rule(
    "code.files",
    "The model's code reads or writes files",
    Severity.CRITICAL,
    "Running the model overwrites or reads files with your rights; torch does not ask.",
    "Do not run it. A classifier needs no files; have it exported anew without these calls.",
    ("torchscript", "pt2"),
    cwe="CWE-73",
    example='torch.save(y, "/home/user/.bashrc") inside forward.',
    blocks_run=True,
)
REMOTE = Rule(
    "code.network",
    "The model's code calls other machines or Python",
    Severity.CRITICAL,
    "Running the model sends data away or calls code outside the archive.",
    "Do not run it. Have it exported anew without these calls.",
    ("torchscript", "pt2"),
    cwe="CWE-829",
    example="ops.prim.rpc_async(…) or a Python operator inside forward.",
    blocks_run=True,
)
CUSTOM = Rule(
    "code.custom-operator",
    "The code calls operators that are not torch's",
    Severity.HIGH,
    "Custom operators are native code that cannot be seen here; the library that has them runs.",
    "Ask which library they belong to; audit that library, or ask for a model without them.",
    ("torchscript", "pt2"),
    cwe="CWE-829",
    example="ops.mycompany.secret(x) inside forward.",
)
MEMORY = Rule(
    "code.memory",
    "The code handles raw memory or the process's state",
    Severity.MEDIUM,
    "Such operators bypass torch's bounds or change settings for the whole process.",
    "Ask what they are for; have the model exported without them.",
    ("torchscript", "pt2"),
    cwe="CWE-119",
    example="torch.set_(x, storage, 1000000, [1], [1]).",
)
FORK = Rule(
    "code.fork",
    "The code starts parallel tasks",
    Severity.MEDIUM,
    "Forked tasks can outlive the call and are hard to bound; classifiers rarely need them.",
    "Ask what runs in them.",
    TORCHSCRIPT,
    cwe="CWE-400",
    example="fork(__torch__.helper, x) inside forward.",
)
UNKNOWN_OP = Rule(
    "code.unknown-operator",
    "The code calls an operator this tool does not know",
    Severity.LOW,
    "It may be newer than this tool, or a name that does not exist.",
    "Update the tool, or look the operator up.",
    ("torchscript", "pt2"),
    example="torch.some_future_layer(x).",
)
register(FILES, REMOTE, CUSTOM, MEMORY, FORK, UNKNOWN_OP)

_FILE_NAMES = frozenset({"save", "from_file", "load", "load_tensor", "read_file", "write_file"})
_REMOTE_NAMES = frozenset({"rpc_async", "rpc_sync", "rpc_remote", "PythonOp", "IgnoredPythonOp"})
_RAW_NAMES = frozenset(
    """set_ set_data resize_storage_bytes_ _reinterpret_tensor _alloc_from_pool set_num_threads
    manual_seed _set_item_storage _nested_view_from_buffer""".split()  # noqa: SIM905
)
_NETWORK_SPACES = frozenset(
    "c10d _c10d_functional c10d_functional _c10d_functional_autograd symm_mem fsdp _dtensor".split()  # noqa: SIM905
)
_KNOWN_SPACES = frozenset(
    """aten prim prims torchvision quantized _quantized quantization mkldnn mkldnn_prepacked onednn
    sparse mkl prepacked xnnpack metal_prepack vulkan_prepack image cuda static_runtime profiler
    rngprims inductor export higher_order quantized_decomposed torchao""".split()  # noqa: SIM905
)
_VENDOR_SPACES = frozenset("tensorrt neuron torch_ipex torchaudio torchtext fbgemm".split())  # noqa: SIM905


def judge(name: str) -> tuple[Rule, Severity] | None:
    """The rule that the operator `name` (``torch.save``, ``ops.x.y``) breaks, or None."""
    parts = name.split(".")
    last = parts[-1]
    plain = last[:-1] if last.endswith("_") and not last.endswith("__") else last
    space = parts[1] if parts[0] == "ops" and len(parts) > 2 else "aten"
    if last.startswith("^") or last in _REMOTE_NAMES or space in _NETWORK_SPACES:
        return REMOTE, REMOTE.severity
    if (last in _FILE_NAMES or plain in _FILE_NAMES) and space in ("aten", "image", "prim"):
        return FILES, FILES.severity
    if last in _RAW_NAMES:
        return MEMORY, MEMORY.severity
    if space in ("torchaudio", "image", "video_reader") and re.search("file|url|path", last):
        return FILES, FILES.severity
    if space not in _KNOWN_SPACES:
        return CUSTOM, Severity.MEDIUM if space in _VENDOR_SPACES else CUSTOM.severity
    if space == "aten" and parts[0] in ("torch", "ops"):
        known = last in ATEN or plain in ATEN or last in PRIM
        return None if known else (UNKNOWN_OP, UNKNOWN_OP.severity)
    return None
