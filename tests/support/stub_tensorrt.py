"""TensorRT's own Python bindings over libraries that do nothing: what is called, and with what.

The bindings check each call's arguments, then call a virtual function of a C++ object. Those
objects are made here, with one table of functions for all, so that every such call arrives in
``_called``. Which method it belongs to is known from the binding's method that is running.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

WORD = ctypes.c_uint64
_VIRTUAL = ctypes.CFUNCTYPE(WORD, *[WORD] * 6)
_FACTORY = ctypes.CFUNCTYPE(WORD, ctypes.c_char_p, *[WORD] * 3)
_SLOTS = 400  # more virtual functions than any class of TensorRT's has
_FACTORIES = {
    "createInferBuilder_INTERNAL": "Builder",
    "createInferRuntime_INTERNAL": "Runtime",
    "createNvOnnxParser_INTERNAL": "OnnxParser",
}
_BYTES = 2  # DataType.INT8
_OURS = ("ILogger", "Logger", "IProgressMonitor")  # implemented in Python: the bindings call these


class Thing:
    """An object of TensorRT's: ``kind`` is its class in Python, ``facts`` are the test's."""

    def __init__(self, stub: StubTensorRT, kind: str, **facts: Any) -> None:
        self.kind = kind
        self.facts = facts
        self._body = (WORD * 2)(stub.table)
        self._public = (WORD * 2)(stub.table, ctypes.addressof(self._body))
        self.address = ctypes.addressof(self._public)
        stub.things |= {self.address: self, ctypes.addressof(self._body): self}


class StubTensorRT:
    """Loads bindings over stub libraries.

    Args:
        name: of the bindings' module
        libraries: stub libraries by the names that the bindings want, see ``stub_tensorrt.c``; the
            first holds the functions
        answers: what the method "Class.method" of the bindings gets for the words that it passes
            on, ``this`` first: a number, text, ``Thing``, or a tuple, which is a shape

    Attributes:
        module: the bindings
        classes: of it, but for enumerations and what is implemented in Python
        calls: methods and properties of the bindings that were used, as "Class.name"
        failing: the method that gives nothing, False or 0 from now on
        failures: what went wrong in C's calls, from which no exception can come
    """

    def __init__(
        self, name: str, libraries: list[Path], answers: dict[str, Callable[..., Any]]
    ) -> None:
        self.answers = answers
        self.calls: list[str] = []
        self.failures: list[str] = []
        self.things: dict[int, Thing] = {}
        self.failing: str | None = None
        self._running: str | None = None
        self._kept: list[Any] = []
        self._memory_slots: dict[int, str] = {}
        functions = [_VIRTUAL(partial(self._called, slot)) for slot in range(_SLOTS)]
        # Before a table, C++ keeps an offset and what ``typeid`` gives.
        type_info = WORD.in_dll(ctypes.CDLL("libstdc++.so.6"), "_ZTIPv")
        self._table = (WORD * (2 + _SLOTS))(
            0,
            ctypes.addressof(type_info),
            *(ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions),
        )
        self.table = ctypes.addressof(self._table) + 2 * ctypes.sizeof(WORD)
        loaded = [ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL) for library in libraries]
        factory = _FACTORY(self._made)
        ctypes.c_void_p.in_dll(loaded[0], "answer").value = ctypes.cast(
            factory, ctypes.c_void_p
        ).value
        self._kept += [functions, factory, *loaded]
        self.module = import_module(name)
        self.classes = [
            kind
            for kind in vars(self.module).values()
            if type(kind).__name__ == "pybind11_type"
            and not hasattr(kind, "__members__")  # an enumeration
            and kind.__name__ not in _OURS
        ]
        for kind in self.classes:
            self._watch(kind)

    def memory(self, content: bytes) -> Thing:
        """An ``IHostMemory``."""
        return Thing(
            self, "IHostMemory", content=ctypes.create_string_buffer(content, len(content))
        )

    def learn_memory(self, memory: Any) -> None:
        """Learn which functions of an ``IHostMemory`` say its size and type: Python's buffers, of
        which none of the bindings' methods is part, ask for them too."""
        _ = memory.nbytes, memory.dtype
        assert len(self._memory_slots) == 2, self._memory_slots

    def _memory(self, slot: int, content: Any) -> int:
        if self._running in ("IHostMemory.nbytes", "IHostMemory.dtype"):
            self._memory_slots[slot] = self._running
        known = {"IHostMemory.nbytes": len(content), "IHostMemory.dtype": _BYTES}
        name = self._memory_slots.get(slot)
        return ctypes.addressof(content) if name is None else known[name]

    def _watch(self, kind: type) -> None:
        """Note the methods and properties of a class while they run."""
        for name, member in list(vars(kind).items()):
            if name.startswith("_") and name != "__init__":
                continue
            during = partial(self._during, f"{kind.__name__}.{name}")
            if type(member) is property:  # static ones are properties of another type
                setattr(
                    kind,
                    name,
                    property(
                        member.fget and _within(during, member.fget),
                        member.fset and _within(during, member.fset),
                    ),
                )
            elif callable(member):
                setattr(kind, name, _within(during, getattr(kind, name)))

    @contextmanager
    def _during(self, name: str) -> Iterator[None]:
        before, self._running = self._running, name
        try:
            yield
        finally:
            self._running = before
        self.calls.append(name)  # it took its arguments

    def _made(self, function: bytes, *_: int) -> int:
        kind = _FACTORIES.get(function.decode())
        failing = kind is None or self.failing == f"{kind}.__init__"
        return 0 if failing else Thing(self, str(kind)).address

    def _called(self, slot: int, *words: int) -> int:
        try:
            return self._answer(slot, *words)
        except Exception as error:
            self.failures.append(f"{self._running}: {type(error).__name__}: {error}")
            return 0

    def _answer(self, slot: int, *words: int) -> int:
        # A struct is returned in memory whose address comes before ``this``.
        structure = 0 if words[0] in self.things else words[0]
        this, *arguments = words[1:] if structure else words
        thing = self.things[this]
        if thing.kind == "IHostMemory":
            return self._memory(slot, thing.facts["content"])
        if self._running is None or self._running.partition(".")[0] != thing.kind:
            return 0  # its destructor
        failing = self._running == self.failing
        found: Any = None if failing else self.answers[self._running](thing, *arguments)
        if structure:
            ctypes.c_int32.from_address(structure).value = len(found)
            (ctypes.c_int64 * len(found)).from_address(structure + 8)[:] = found
            return structure
        if isinstance(found, str):
            self._kept.append(ctypes.create_string_buffer(found.encode()))
            return ctypes.addressof(self._kept[-1])
        return found.address if isinstance(found, Thing) else int(found or 0)


def _within(during: Callable[[], Any], method: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any, **named: Any) -> Any:
        with during():
            return method(*arguments, **named)

    return noted


def text(address: int) -> str:
    return ctypes.string_at(address).decode()


def shape(address: int) -> tuple[int, ...]:
    """A ``Dims`` of TensorRT's."""
    count = ctypes.c_int32.from_address(address).value
    return tuple((ctypes.c_int64 * count).from_address(address + 8))
