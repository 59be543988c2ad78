"""Landlock: the process gives up writing to files (and, on demand, reading most of them).

Set through ctypes, before any library has started a thread, for it binds the calling thread and
those it starts. Linux 5.13 and later; rights newer than the kernel are left out and said.
Method: Linux ``Documentation/userspace-api/landlock``.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
# Removing and making files, folders, links, sockets, pipes and devices.
_CHANGES_V1 = sum(1 << bit for bit in range(4, 13))
_REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_NETWORK = 0b11  # bind and connect over TCP, from version 4
_SCOPES = 0b11  # abstract unix sockets and signals, from version 6


def version() -> int:
    """The kernel's Landlock version. Raises OSError where there is none."""
    return _syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)


def restrict(*, readable: Iterable[str] | None, writable: Iterable[str] = ("/dev/null",)) -> int:
    """Allow writing only to `writable`, running programs nowhere, reading only `readable`.

    `readable` None leaves reading alone. Paths that do not exist are passed over. Returns the
    Landlock version used; raises OSError where it cannot be had.
    """
    found = version()
    writes = WRITE_FILE | _CHANGES_V1
    writes |= _REFER if found >= 2 else 0
    writes |= TRUNCATE if found >= 3 else 0
    writes |= IOCTL_DEV if found >= 5 else 0
    reads = READ_FILE | READ_DIR if readable is not None else 0
    attributes = struct.pack(
        "<QQQ",
        writes | reads | EXECUTE,
        _NETWORK if found >= 4 else 0,
        _SCOPES if found >= 6 else 0,
    )[: 24 if found >= 6 else 16 if found >= 4 else 8]
    ruleset = _syscall(_CREATE_RULESET, ctypes.c_char_p(attributes), len(attributes), 0)
    try:
        for path in readable or ():
            _allow(ruleset, path, reads)
        for path in writable:
            _allow(ruleset, path, (writes & (WRITE_FILE | TRUNCATE | IOCTL_DEV)) | reads)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "no_new_privs was refused")
        _syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return found


def _allow(ruleset: int, path: str, rights: int) -> None:
    """One rule; a path that is not there needs none."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _ON_FILES
        if rights:
            rule = struct.pack("<Qi", rights, handle)
            _syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(handle)


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(ctypes.c_long(number), *(_as_long(a) for a in arguments)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _as_long(value: object) -> object:
    """Integers as C longs: variadic functions would get 32 bits of them otherwise."""
    return ctypes.c_long(value) if isinstance(value, int) else value
