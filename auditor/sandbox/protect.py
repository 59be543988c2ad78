"""What the process gives up, in the order it must: early, before any thread; late, after imports.

A protection that cannot be had never stops the work: it is told, and the report shows it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from auditor.sandbox import landlock, seccomp
from auditor.sandbox.protection import Protection, Protections

_LINUX = sys.platform == "linux"
_NOT_LINUX = f"needs Linux; this is {sys.platform}"
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITY_VERSION_3, _CAP_DAC_READ_SEARCH = 0x20080522, 2
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
# What Python and the numeric libraries read besides their own folders.
_SYSTEM_READS = ["/usr", "/lib", "/lib64", "/bin", "/opt", "/proc", "/sys", "/dev/null"]
_SYSTEM_READS += ["/dev/urandom", "/dev/random", "/dev/zero", "/etc/ld.so.cache"]
_SYSTEM_READS += ["/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/nsswitch.conf"]
_SYSTEM_READS += ["/etc/passwd", "/etc/os-release", "/etc/mime.types"]


def early(
    *,
    parent: int,
    cpu_seconds: int,
    open_files: int,
    readable: list[str] | None,
    gpu: bool,
) -> Protections:
    """Limits that must be in place before a library starts threads (they bind one thread)."""
    told: Protections = {}
    told.update(_rlimits(cpu_seconds, open_files))
    told["dies_with_parent"] = _try(lambda: die_with(parent))
    told["killed_first"] = _try(_killed_first)
    told["network_namespace"] = _try(_own_network)
    # After the name space, which resets it.
    if _LINUX:
        told["dies_with_parent"] = _try(lambda: die_with(parent))
    told["not_inspectable"] = _try(_not_inspectable)
    told["no_new_privileges"] = _try(_no_new_privileges)
    told["no_privileges"] = _try(_drop_capabilities)
    told.update(_files(readable, gpu))
    return told


def late(told: Protections, *, gpu: bool) -> Protections:
    """The system call filter: after the imports, before the artifact is touched."""
    names = {
        "no_network": "sockets are refused",
        "no_programs": "starting programs and processes is refused, threads are not",
        "no_system_changes": "mounts, modules, clocks, other processes, file owners and modes",
    }
    writes_open = told["no_file_writes"].status != "applied"
    outcome = _try(lambda: _filter(writes_open, gpu))
    if outcome.status != "applied":
        return dict.fromkeys(names, outcome)
    added = {name: Protection("applied", detail) for name, detail in names.items()}
    if writes_open:
        detail = "opening for writing is refused by the system call filter"
        before = told["no_file_writes"].detail
        added["no_file_writes"] = Protection("applied", f"{detail} (Landlock: {before})")
    return added


def _try(action: Callable[[], str]) -> Protection:
    """Do it and say what was done, or say why it could not be had."""
    if not _LINUX:
        return Protection("unavailable", _NOT_LINUX)
    try:
        return Protection("applied", action())
    except (OSError, NotImplementedError, AttributeError, ValueError) as error:
        return Protection("unavailable", getattr(error, "strerror", None) or str(error))


def _rlimits(cpu_seconds: int, open_files: int) -> Protections:
    import resource

    wanted = {
        "processor_time": (resource.RLIMIT_CPU, cpu_seconds, f"{cpu_seconds} s in all"),
        "file_size": (resource.RLIMIT_FSIZE, 0, "no file can grow"),
        "open_files": (resource.RLIMIT_NOFILE, open_files, f"at most {open_files}"),
        "core_dumps": (resource.RLIMIT_CORE, 0, "none"),
    }
    told: Protections = {}
    for name, (which, value, detail) in wanted.items():
        try:
            hard = resource.getrlimit(which)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            # One second between the signal and the kill, so that the cause can be told.
            extra = 1 if which == resource.RLIMIT_CPU and hard in (resource.RLIM_INFINITY,) else 0
            resource.setrlimit(which, (value, value + extra))
            told[name] = Protection("applied", detail)
        except (OSError, ValueError) as error:
            told[name] = Protection("unavailable", str(error))
    return told


def watch_parent(parent: int) -> Protection:
    """Where the kernel does not tell: a thread ends the process when the parent is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()
    return Protection("applied", "looks for the parent every half second")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def die_with(parent: int) -> str:
    """Ask the kernel to end this process when the thread that started it ends. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before it could be asked to take us along
    return "killed by the kernel when the parent ends"


def _killed_first() -> str:
    Path("/proc/self/oom_score_adj").write_text("1000")
    return "the first to go when the machine runs out of memory"


def _not_inspectable() -> str:
    _prctl(_PR_SET_DUMPABLE, 0)
    return "other processes of the user cannot attach to it"


def _no_new_privileges() -> str:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return "no set-user-id"


def _drop_capabilities() -> str:
    """Give up root's powers but that of reading any file (the artifact may be another user's)."""
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(24)
    if libc.capget(header, held):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    # Two sets of 32: effective, permitted, inheritable.
    permitted = struct.unpack("<6I", held.raw)[1] & (1 << _CAP_DAC_READ_SEARCH)
    if libc.capset(header, struct.pack("<6I", permitted, permitted, 0, 0, 0, 0)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return "none but reading files" if permitted else "none"


def _own_network() -> str:
    """An empty network name space: as root directly, else inside a user name space."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWNET) == 0:
        return "an empty network of its own"
    if count_threads() > 1:
        raise OSError(0, "threads were already running")
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return "an empty network of its own (in a user name space)"


def _files(readable: list[str] | None, gpu: bool) -> Protections:
    """Landlock: no writes; reads only where needed when `readable` is given."""
    devices = sorted(map(str, Path("/dev").glob("nvidia*"))) if gpu else []
    reads = None if readable is None else [*_SYSTEM_READS, *_python_folders(), *readable]
    rights: dict[str, int] = {}

    def restrict() -> str:
        rights["version"] = landlock.restrict(readable=reads, writable=["/dev/null", *devices])
        return f"Landlock version {rights['version']}"

    outcome = _try(restrict)
    if outcome.status != "applied":
        reads_told = outcome if readable is not None else Protection("off", "not asked for")
        return {"no_file_writes": outcome, "limited_reads": reads_told}
    if count_threads() > 1:
        outcome = Protection("partial", f"{outcome.detail}; threads were already running")
    elif rights["version"] < 3:
        outcome = Protection("partial", f"{outcome.detail}: truncating files is not covered")
    if readable is None:
        return {"no_file_writes": outcome, "limited_reads": Protection("off", "not asked for")}
    detail = "only Python, its packages, the system's libraries and the artifact"
    return {"no_file_writes": outcome, "limited_reads": Protection(outcome.status, detail)}


def _python_folders() -> list[str]:
    folders = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path]
    return sorted({os.path.realpath(folder) for folder in folders if folder})


def count_threads() -> int:
    """Threads of this process, those of libraries included."""
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return threading.active_count()


def _filter(refuse_opening_for_writing: bool, gpu: bool) -> str:
    seccomp.install(refuse_opening_for_writing=refuse_opening_for_writing, gpu=gpu)
    return "system call filter"
