"""Operations for the tests, run inside the worker through `extra_ops`: some behave, most do not."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from auditor.errors import UnreadableArtifact

OPS = {
    name: f"tests.sandbox.operations:{name}"
    for name in [
        "double",
        "count",
        "refuse",
        "blunder",
        "hang",
        "spin",
        "hog",
        "exhaust",
        "segfault",
        "leave",
        "kill_self",
        "chatter",
        "attempt",
        "write_raw",
        "close_pipe",
        "bad_number",
        "bad_array",
        "environment",
        "thread_work",
        "read_file",
        "print_stderr",
    ]
}


def double(params, arrays, emit):
    return params, {name: array * 2 for name, array in arrays.items()}


def count(params, arrays, emit):
    for step in range(params["to"]):
        emit({"step": step}, {"at": np.array([step])})
    return {"done": params["to"]}, {}


def refuse(params, arrays, emit):
    raise UnreadableArtifact("the file is\x1b[31m not\na model")


def blunder(params, arrays, emit):
    raise IndexError("list index out of range")


def hang(params, arrays, emit):
    emit({"going": "to sleep"})
    time.sleep(600)
    return {}, {}


def spin(params, arrays, emit):
    while True:
        pass


def hog(params, arrays, emit):
    kept = []
    while True:
        kept.append(np.ones(16 << 20, np.uint8))


def exhaust(params, arrays, emit):
    raise MemoryError


def segfault(params, arrays, emit):
    ctypes.string_at(0)
    return {}, {}


def leave(params, arrays, emit):
    os._exit(3)


def kill_self(params, arrays, emit):
    os.kill(os.getpid(), signal.SIGKILL)
    return {}, {}


def chatter(params, arrays, emit):
    print("AUD1" * 100_000)
    os.write(1, b"AUD1\xff\xff\xff\xff" * 1000)
    sys.stdout.flush()
    print(input() if params.get("ask") else "no question")
    return {"fine": True}, {}


def print_stderr(params, arrays, emit):
    os.write(2, b"x" * 100_000 + b"the last words")
    return {}, {}


def _protocol_descriptor():
    """The pipe back to the parent, as a hostile model would find it."""
    for number in range(3, 20):
        try:
            if str(Path(f"/proc/self/fd/{number}").readlink()).startswith("pipe:"):
                os.write(number, b"")
                return number
        except OSError:
            continue
    raise AssertionError("no pipe found")


def write_raw(params, arrays, emit):
    os.write(_protocol_descriptor(), bytes.fromhex(params["hex"]))
    time.sleep(params.get("sleep", 600))
    return {}, {}


def close_pipe(params, arrays, emit):
    os.close(_protocol_descriptor())
    time.sleep(600)
    return {}, {}


def bad_number(params, arrays, emit):
    return {"value": float("nan")}, {}


def bad_array(params, arrays, emit):
    return {}, {"names": np.array(["a", "b"], dtype=object)}


def environment(params, arrays, emit):
    return {"environment": dict(os.environ), "cwd": str(Path.cwd()), "path0": sys.path[0]}, {}


def thread_work(params, arrays, emit):
    found = []
    threads = [threading.Thread(target=found.append, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"found": sorted(found)}, {}


def read_file(params, arrays, emit):
    return {"size": len(Path(params["path"]).read_bytes())}, {}


def _save_with_torch(path):
    import torch

    torch.save({"a": torch.ones(2)}, path)


def _append(path):
    with path.open("a") as file:
        file.write("x")


def _thread_write(path):
    """A thread does what the main thread may not."""
    caught = []

    def write():
        try:
            Path(path).write_text("x")
        except OSError as error:
            caught.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    if caught:
        raise caught[0]


def _syscall(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _raise_limit():
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))


def _prctl(option, value):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


ATTEMPTS = {
    "create": lambda p: Path(p, "new").write_text("x"),
    "overwrite": lambda p: Path(p, "there").write_text("x"),
    "append": lambda p: _append(Path(p, "there")),
    "truncate": lambda p: os.truncate(Path(p, "there"), 0),
    "unlink": lambda p: Path(p, "there").unlink(),
    "rename": lambda p: Path(p, "there").rename(Path(p, "elsewhere")),
    "mkdir": lambda p: Path(p, "folder").mkdir(),
    "symlink": lambda p: Path(p, "link").symlink_to("there"),
    "hardlink": lambda p: Path(p, "link").hardlink_to(Path(p, "there")),
    "chmod": lambda p: Path(p, "there").chmod(0o777),
    "utime": lambda p: os.utime(Path(p, "there"), (0, 0)),
    "fifo": lambda p: os.mkfifo(Path(p, "fifo")),
    "from_thread": lambda p: _thread_write(Path(p, "new")),
    "own_folder": lambda p: Path("new").write_text("x"),
    "shared_memory": lambda p: Path("/dev/shm/audit-test").write_text("x"),
    "torch_save": lambda p: _save_with_torch(Path(p, "new")),
    "tcp": lambda p: socket.create_connection(("127.0.0.1", 9), timeout=2),
    "udp": lambda p: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "unix_socket": lambda p: socket.socket(socket.AF_UNIX),
    "raw_netlink": lambda p: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "exec": lambda p: os.execv(sys.executable, [sys.executable, "-V"]),
    "subprocess": lambda p: subprocess.run([sys.executable, "-V"], check=True),
    "system": lambda p: _system(),
    "fork": lambda p: _fork(),
    "kill_parent": lambda p: os.kill(os.getppid(), 0),
    "ptrace": lambda p: _syscall(101 if os.uname().machine == "x86_64" else 117, 16, os.getppid()),
    "parent_memory": lambda p: os.close(os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY)),
    "parent_environment": lambda p: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "io_uring": lambda p: _syscall(425, 1, 0),
    "unshare": lambda p: _syscall(272 if os.uname().machine == "x86_64" else 97, 0x10000000),
    "raise_limit": lambda p: _raise_limit(),
    "forget_parent": lambda p: _prctl(1, 0),
    "memfd": lambda p: os.memfd_create("x"),
}


def _system():
    if os.system("true") != 0:  # -1: the shell could not be started
        raise PermissionError("the shell could not be started")


def _fork():
    if os.fork() == 0:
        os._exit(0)


def attempt(params, arrays, emit):
    """Try something forbidden; say whether it worked, or how it was refused."""
    try:
        ATTEMPTS[params["what"]](params.get("path"))
    except (OSError, RuntimeError, ValueError) as error:
        return {"worked": False, "how": f"{type(error).__name__}: {error}"}, {}
    return {"worked": True}, {}
