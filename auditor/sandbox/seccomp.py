"""A system call filter (seccomp-BPF) for the process, built by hand and set through ctypes.

After it is set, no thread of the process can reach the network, start a program, look into
another process or change the system; refused calls return EPERM, so libraries see an ordinary
error. Linux on x86_64 and aarch64. Method: Linux ``Documentation/userspace-api/seccomp_filter``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from auditor.sandbox import syscalls

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP_SYSCALL = {"x86_64": 317, "aarch64": 277}
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NR, _ARCH, _ARGS = 0, 4, 16
_CLONE_THREAD = 0x10000
_OPEN_TO_CHANGE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_X32_BIT = 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_PR_SET_NO_NEW_PRIVS = 38

Instruction = tuple[int, int, int, int]


def install(*, refuse_opening_for_writing: bool, gpu: bool = False) -> None:
    """Set the filter for every thread of this process; it cannot be taken off again.

    `refuse_opening_for_writing` covers for a missing Landlock. Raises OSError where the system
    has no seccomp or refuses it, NotImplementedError on other processors.
    """
    machine = platform.machine()
    if machine not in _AUDIT_ARCH:
        raise NotImplementedError(f"no filter is written for {machine}")
    program = build(
        machine,
        pid=os.getpid(),
        refuse_opening_for_writing=refuse_opening_for_writing,
        gpu=gpu,
    )
    load(program, machine)


def load(program: list[Instruction], machine: str) -> None:
    """Give a filter to the kernel, for every thread. Raises OSError when it is refused."""
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("<H6xQ", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs was refused")
    # SECCOMP_SET_MODE_FILTER with TSYNC: threads started by the pre-warmed libraries as well.
    result = libc.syscall(_SECCOMP_SYSCALL[machine], 1, 1, ctypes.c_char_p(header))
    if result != 0:
        code_number = ctypes.get_errno() or errno.EPERM
        raise OSError(code_number, os.strerror(code_number))


def build(
    machine: str, *, pid: int, refuse_opening_for_writing: bool, gpu: bool
) -> list[Instruction]:
    """The filter as (code, jump if true, jump if false, constant) instructions."""
    column = 0 if machine == "x86_64" else 1
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NR),
    ]
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL)]
    groups = [syscalls.NETWORK, syscalls.PROGRAMS, syscalls.OTHERS, syscalls.CHANGES]
    groups.append(syscalls.SYSTEM)
    if not gpu:  # the driver shares memory with the card's daemon
        groups.append(syscalls.SHARED_MEMORY)
    for group in groups:
        program += _refuse_all(group, column, errno.EPERM)
    program += _refuse_all(syscalls.UNSEEN, column, errno.ENOSYS)
    program += _special(column, pid, refuse_opening_for_writing)
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _refuse_all(group: syscalls.Numbers, column: int, error: int) -> list[Instruction]:
    out: list[Instruction] = []
    for numbers in group.values():
        number = numbers[column]
        if number is not None:
            out += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | error)]
    return out


def _special(column: int, pid: int, refuse_opening_for_writing: bool) -> list[Instruction]:
    """Calls that are refused or not by their arguments."""
    refuse: Instruction = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allow: Instruction = (_RETURN, 0, 0, _ALLOW)

    def on(name: str, body: list[Instruction]) -> list[Instruction]:
        number = syscalls.SPECIAL[name][column]
        return [] if number is None else [(_EQUAL, 0, len(body), number), *body]

    def low(argument: int) -> Instruction:
        return (_LOAD, 0, 0, _ARGS + 8 * argument)

    def high(argument: int) -> Instruction:
        return (_LOAD, 0, 0, _ARGS + 8 * argument + 4)

    # A new thread is fine, a new process is not.
    out = on("clone", [low(0), (_ANY_BIT, 0, 1, _CLONE_THREAD), allow, refuse])
    # abort() signals the process itself.
    for name in ("kill", "tgkill"):
        out += on(name, [low(0), (_EQUAL, 0, 1, pid), allow, refuse])
    # Limits may be read (no new value given) and not set.
    is_null: list[Instruction] = [
        low(2),
        (_EQUAL, 0, 3, 0),
        high(2),
        (_EQUAL, 0, 1, 0),
        allow,
        refuse,
    ]
    out += on("prlimit64", is_null)
    kept: list[Instruction] = [
        low(0),
        (_EQUAL, 2, 0, _PR_SET_PDEATHSIG),
        (_EQUAL, 1, 0, _PR_SET_DUMPABLE),
        allow,
        refuse,
    ]
    out += on("prctl", kept)
    if refuse_opening_for_writing:
        for name, argument in (("open", 1), ("openat", 2)):
            out += on(name, [low(argument), (_ANY_BIT, 1, 0, _OPEN_TO_CHANGE), allow, refuse])
        out += on("creat", [refuse])
    return out
