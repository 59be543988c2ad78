"""Read a pickle as data: walk its opcodes with a model of the machine, import and call nothing.

The result is an inert tree. Whatever the pickle would import becomes a `Global`, whatever it would
call a `Call`; both are listed, up to the opcode where the pickle breaks (the real machine, too,
would have acted until there). Idea after fickling (Trail of Bits, 2021); opcodes by pickletools.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_BYTES = 64 << 20
MAX_OPCODES = 4_000_000

_MARK = object()


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A name the pickle would import. `module` is '?' when it is computed rather than written."""

    module: str
    name: str

    @property
    def full(self) -> str:
        """``module.name``."""
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Call:
    """``function(*args)`` as REDUCE, NEWOBJ, INST or OBJ would run it; `state` is what BUILD sets.

    For an object of a scripted class `function` is the class (``__torch__.Net``) and `state` the
    dictionary of its attributes. `items` are what the pickle would append or set on it.
    """

    function: Any
    args: Any
    state: Any = None
    items: list[Any] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Full name of what is called, '?' when it is computed."""
        return self.function.full if isinstance(self.function, Global) else "?"


@dataclass(frozen=True, slots=True, eq=False)
class Persistent:
    """A persistent id: for torch a tuple ('storage', type, key, device, numel)."""

    pid: Any


@dataclass(frozen=True, slots=True)
class Pickle:
    """What a pickle holds. `error` is '' or says at which byte reading stopped; `stop` is the
    offset after STOP (bytes from there on are not part of the pickle)."""

    root: Any
    globals: tuple[Global, ...]
    calls: tuple[Call, ...]
    opcodes: Mapping[str, int]
    stop: int
    error: str = ""


class _Bad(Exception):
    pass


class _Machine:
    """The pickle machine's stack and memo, holding inert values."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: list[Global] = []
        self.calls: list[Call] = []

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise _Bad("the stack is empty")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise _Bad("a mark is missing")

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise _Bad("the stack is empty")
        return self.stack[-1]

    def find(self, module: Any, name: Any) -> None:
        seen = Global(module if isinstance(module, str) else "?", _text(name))
        self.globals.append(seen)
        self.stack.append(seen)

    def call(self, function: Any, args: Any) -> None:
        made = Call(function, args)
        self.calls.append(made)
        self.stack.append(made)

    def set_items(self, pairs: list[Any]) -> None:
        target = self.top()
        if len(pairs) % 2:
            raise _Bad("a key has no value")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if isinstance(target, dict):
                # Only plain keys: hashing a deeply nested tuple would overflow the C stack.
                plain = isinstance(key, str | int | float | bytes | None)
                target[key if plain else f"?{id(key)}"] = value
            elif isinstance(target, Call):
                target.items.append((key, value))
            else:
                raise _Bad("items are set on something that is no dictionary")

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Call):
            target.items.extend(items)
        else:
            raise _Bad("items are appended to something that is no list")

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, Call):
            target.state = state
        else:
            self.calls.append(Call(Global("?", "__setstate__"), (target,), state))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "?"


_PUSH = frozenset(
    """INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES
    SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT
    BINFLOAT""".split()  # noqa: SIM905 - one name a line would hide the table
)
_CONSTANT: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Mapping[str, Any] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_IGNORED = frozenset({"PROTO", "FRAME", "STOP", "READONLY_BUFFER"})


def _step(machine: _Machine, op: str, arg: Any) -> None:
    stack = machine.stack
    if op in _PUSH:
        stack.append(arg)
    elif op in _CONSTANT:
        stack.append(_CONSTANT[op])
    elif op in _EMPTY:
        stack.append(_EMPTY[op]())
    elif op == "MARK":
        stack.append(_MARK)
    elif op in ("PUT", "BINPUT", "LONG_BINPUT"):
        machine.memo[int(arg)] = machine.top()
    elif op == "MEMOIZE":
        machine.memo[len(machine.memo)] = machine.top()
    elif op in ("GET", "BINGET", "LONG_BINGET"):
        if int(arg) not in machine.memo:
            raise _Bad("a memo entry is missing")
        stack.append(machine.memo[int(arg)])
    elif op in _CONTAINERS:
        _CONTAINERS[op](machine)
    elif op in _CALLS:
        _CALLS[op](machine, arg)
    elif op not in _IGNORED:
        raise _Bad(f"opcode {op} is not known")


def _tuple(count: int) -> Any:
    def make(machine: _Machine) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

    return make


def _dict(machine: _Machine) -> None:
    pairs = machine.since_mark()
    machine.stack.append({})
    machine.set_items(pairs)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


def _pop(machine: _Machine) -> None:
    if not machine.stack:
        raise _Bad("the stack is empty")
    machine.stack.pop()


_CONTAINERS: Mapping[str, Any] = {
    "TUPLE": lambda m: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "LIST": lambda m: m.stack.append(m.since_mark()),
    "DICT": _dict,
    "FROZENSET": lambda m: m.stack.append(m.since_mark()),
    "EMPTY_SET": lambda m: m.stack.append([]),
    "ADDITEMS": lambda m: m.extend(m.since_mark()),
    "APPENDS": lambda m: m.extend(m.since_mark()),
    "APPEND": lambda m: m.extend([m.pop()]),
    "SETITEM": _set_item,
    "SETITEMS": lambda m: m.set_items(m.since_mark()),
    "POP": _pop,
    "POP_MARK": lambda m: m.since_mark(),
    "DUP": lambda m: m.stack.append(m.top()),
    "NEXT_BUFFER": lambda m: m.stack.append(b""),
}


def _global(machine: _Machine, arg: Any) -> None:
    module, _, name = str(arg).partition(" ")
    machine.find(module, name)


def _stack_global(machine: _Machine, _arg: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.find(module, name)


def _reduce(machine: _Machine, _arg: Any) -> None:
    args, function = machine.pop(), machine.pop()
    machine.call(function, args)


def _newobj_ex(machine: _Machine, _arg: Any) -> None:
    keywords, args, function = machine.pop(), machine.pop(), machine.pop()
    machine.call(function, (args, keywords))


def _inst(machine: _Machine, arg: Any) -> None:
    args = tuple(machine.since_mark())
    _global(machine, arg)
    machine.call(machine.pop(), args)


def _obj(machine: _Machine, _arg: Any) -> None:
    items = machine.since_mark()
    if not items:
        raise _Bad("OBJ has no class")
    machine.call(items[0], tuple(items[1:]))


def _extension(machine: _Machine, arg: Any) -> None:
    machine.find("copyreg", f"extension {arg}")


_CALLS: Mapping[str, Any] = {
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _newobj_ex,
    "INST": _inst,
    "OBJ": _obj,
    "BUILD": lambda m, _arg: m.build(),
    "EXT1": _extension,
    "EXT2": _extension,
    "EXT4": _extension,
    "PERSID": lambda m, arg: m.stack.append(Persistent(arg)),
    "BINPERSID": lambda m, _arg: m.stack.append(Persistent(m.pop())),
}


def interpret_pickle(data: bytes) -> Pickle:
    """The inert tree of the first pickle in `data`. Never raises: see `Pickle.error`.

    Values: None, bool, int, float, str, bytes, list (also for sets), tuple, dict (other than plain
    keys become '?…'), `Global`, `Call`, `Persistent`. May share nodes and hold cycles.
    """
    machine = _Machine()
    opcodes: dict[str, int] = {}
    error, stop, root = "", len(data), None
    position: int | None = 0
    try:
        if len(data) > MAX_BYTES:
            raise _Bad(f"it is larger than {MAX_BYTES} bytes")
        for count, (opcode, arg, where) in enumerate(pickletools.genops(data)):
            position = where
            if count >= MAX_OPCODES:
                raise _Bad(f"it has more than {MAX_OPCODES} opcodes")
            opcodes[opcode.name] = opcodes.get(opcode.name, 0) + 1
            if opcode.name == "STOP":
                stop = (where or 0) + 1
                root = machine.pop()
                break
            _step(machine, opcode.name, arg)
    except (_Bad, ValueError, IndexError, KeyError, TypeError, OverflowError) as problem:
        error = f"byte {position}: {problem}"[:300]
    except (struct.error, MemoryError, EOFError, AttributeError) as problem:
        error = f"byte {position}: {type(problem).__name__}"
    found, made = tuple(machine.globals), tuple(machine.calls)
    return Pickle(root, found, made, opcodes, stop, error)
