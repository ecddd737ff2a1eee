"""Pickles read as inert values, without importing or calling anything.

A pickle is a program for a stack machine, which can call any function. Here the machine is our own: where the
program calls a function, an `Object` that holds the name and the arguments is put on the stack instead, unless the
function is one of a few that the reader brings along. Mappings are lists of pairs, so that no value is ever hashed.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_STEPS = 2_000_000  # a checkpoint of 10,000 tensors with their optimiser takes some 400,000


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Named:
    """A class or a function that a pickle names.

    Attributes:
      module: The module that it would be imported from.
      name: Its name there.
    """

    module: str
    name: str


@dataclass(eq=False, repr=False, slots=True)
class Object:
    """The function and the arguments of a call in a pickle.

    Attributes:
      maker: What it would call, usually a `Named`.
      arguments: What it would call it with.
      pairs: Keys and values that it would set; all there is in a dict.
      members: What it would append or add; all there is in a set.
      state: What it would set the attributes from.
    """

    maker: Any
    arguments: tuple = ()
    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    members: list[Any] = field(default_factory=list)
    state: Any = None


Rebuild = Mapping[tuple[str, str], Callable[..., Any]]

_DICT, _SET, _EXTENSION = Named("builtins", "dict"), Named("builtins", "set"), Named("copyreg", "extension")
# Instructions that put a number, a text or bytes on the stack.
_CONSTANTS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"} | {
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}


def read_pickle(file: Any, *, rebuild: Rebuild, persistent: Callable[[Any], Any]) -> Any:
    """Read one pickle; the file is left behind its end.

    Args:
      file: An open file of bytes, at the beginning of the pickle.
      rebuild: (module, name) -> a function of ours that is called in the place of that one, with inert values.
      persistent: From a persistent id, which is how torch.save names a storage, to its value.

    Returns:
      A constant, a list, a tuple, a `Named`, an `Object`, or what a function of `rebuild` or `persistent` returned.

    Raises:
      ValueError: It is no pickle, or one of too many steps; `rebuild` and `persistent` may raise others.
    """
    machine = _Machine(rebuild, persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count >= MAX_STEPS:
            raise ValueError(f"its pickle has more than {MAX_STEPS:,} steps")
        if opcode.name == "STOP":
            return machine.pop()
        machine.step(opcode.name, argument)
    raise ValueError("its pickle ends early")


class _Machine:
    """The stack, the stacks below the marks, and the memo."""

    def __init__(self, rebuild: Rebuild, persistent: Callable[[Any], Any]):
        self.rebuild, self.persistent = rebuild, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Run one instruction."""
        if name in _CONSTANTS:
            self.stack.append(argument)
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise ValueError(f"its pickle has an instruction {name}")

    def pop(self) -> Any:
        """The value on top."""
        if not self.stack:
            raise ValueError("its pickle takes more than it has put")
        return self.stack.pop()

    def top(self) -> Any:
        """The value on top, left there."""
        if not self.stack:
            raise ValueError("its pickle takes more than it has put")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        """All values above the last mark."""
        if not self.below:
            raise ValueError("its pickle lacks a mark")
        values, self.stack = self.stack, self.below.pop()
        return values

    def push(self, value: Any) -> None:
        """Put a value on top."""
        self.stack.append(value)

    def mark(self) -> None:
        """Begin a new stack above this one."""
        self.below.append(self.stack)
        self.stack = []

    def drop(self) -> None:
        """Forget the value on top, or an empty stack above a mark."""
        if self.stack or not self.below:
            self.pop()
        else:
            self.pop_mark()

    def remember(self, index: int | None) -> None:
        """Keep the value on top in the memo."""
        index = len(self.memo) if index is None else index
        if not 0 <= index <= MAX_STEPS:  # also bounds how many indices can collide in a dict
            raise ValueError("its pickle has a memo out of range")
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        """Put a value of the memo on top."""
        if index not in self.memo:
            raise ValueError("its pickle reads a memo that it has not written")
        self.push(self.memo[index])

    def set_items(self, values: list[Any]) -> None:
        """Set keys of the mapping on top."""
        target = self.top()
        if not isinstance(target, Object) or len(values) % 2:
            raise ValueError("its pickle sets items of something else than a mapping")
        target.pairs.extend(zip(values[::2], values[1::2], strict=True))

    def append(self, values: list[Any]) -> None:
        """Append to the list on top, or add to the set."""
        target = self.top()
        if not isinstance(target, list | Object):
            raise ValueError("its pickle appends to something else than a list")
        (target if isinstance(target, list) else target.members).extend(values)

    def name(self, module: Any, name: Any) -> None:
        """Put a name on top."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("its pickle names a function by something else than text")
        self.push(Named(module, name))

    def call(self, maker: Any, arguments: Any) -> None:
        """Put what a call would make on top."""
        if not isinstance(arguments, tuple):
            raise ValueError("its pickle calls with something else than a tuple")
        known = self.rebuild.get((maker.module, maker.name)) if isinstance(maker, Named) else None
        self.push(known(*arguments) if known else Object(maker, arguments))

    def call_popped(self) -> None:
        """Call what lies under the arguments on top."""
        arguments = self.pop()
        self.call(self.pop(), arguments)

    def call_with_keywords(self) -> None:
        """Call with keywords on top, which no function of ours takes."""
        self.pop()
        self.call_popped()

    def call_marked(self) -> None:
        """Call the first value above the mark with the others."""
        values = self.pop_mark()
        if not values:
            raise ValueError("its pickle calls nothing")
        self.call(values[0], tuple(values[1:]))

    def build(self) -> None:
        """Keep the state of an object; our own values have none."""
        state, target = self.pop(), self.top()
        if isinstance(target, Object):
            target.state = state

    def pop_last(self, count: int) -> list[Any]:
        """The last values, in their order."""
        return [self.pop() for _ in range(count)][::-1]

    def new_mapping(self, values: list[Any]) -> None:
        """Put a mapping of keys and values on top."""
        self.push(Object(_DICT))
        self.set_items(values)


def _global(machine: _Machine, text: str) -> None:
    machine.name(*text.split(" ", 1))


def _instance(machine: _Machine, text: str) -> None:
    arguments = tuple(machine.pop_mark())
    _global(machine, text)
    machine.call(machine.pop(), arguments)


_STEPS: Mapping[str, Callable[[_Machine, Any], object]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_DICT": lambda m, _: m.push(Object(_DICT)),
    "EMPTY_SET": lambda m, _: m.push(Object(_SET)),
    "LIST": lambda m, _: m.push(m.pop_mark()),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_mark())),
    "TUPLE1": lambda m, _: m.push(tuple(m.pop_last(1))),
    "TUPLE2": lambda m, _: m.push(tuple(m.pop_last(2))),
    "TUPLE3": lambda m, _: m.push(tuple(m.pop_last(3))),
    "DICT": lambda m, _: m.new_mapping(m.pop_mark()),
    "FROZENSET": lambda m, _: m.push(Object(_SET, members=m.pop_mark())),
    "APPEND": lambda m, _: m.append(m.pop_last(1)),
    "APPENDS": lambda m, _: m.append(m.pop_mark()),
    "ADDITEMS": lambda m, _: m.append(m.pop_mark()),
    "SETITEM": lambda m, _: m.set_items(m.pop_last(2)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_mark()),
    "MARK": lambda m, _: m.mark(),
    "POP": lambda m, _: m.drop(),
    "POP_MARK": lambda m, _: m.pop_mark(),
    "DUP": lambda m, _: m.push(m.top()),
    "PUT": lambda m, index: m.remember(index),
    "BINPUT": lambda m, index: m.remember(index),
    "LONG_BINPUT": lambda m, index: m.remember(index),
    "MEMOIZE": lambda m, _: m.remember(None),
    "GET": lambda m, index: m.recall(index),
    "BINGET": lambda m, index: m.recall(index),
    "LONG_BINGET": lambda m, index: m.recall(index),
    "GLOBAL": _global,
    "STACK_GLOBAL": lambda m, _: m.name(*m.pop_last(2)),
    "INST": _instance,
    "OBJ": lambda m, _: m.call_marked(),
    "NEWOBJ": lambda m, _: m.call_popped(),
    "NEWOBJ_EX": lambda m, _: m.call_with_keywords(),
    "REDUCE": lambda m, _: m.call_popped(),
    "BUILD": lambda m, _: m.build(),
    "PERSID": lambda m, name: m.push(m.persistent(name)),
    "BINPERSID": lambda m, _: m.push(m.persistent(m.pop())),
    "EXT1": lambda m, _: m.push(Object(_EXTENSION)),
    "EXT2": lambda m, _: m.push(Object(_EXTENSION)),
    "EXT4": lambda m, _: m.push(Object(_EXTENSION)),
}
