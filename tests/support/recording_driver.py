"""A test double of ``cuda.bindings.driver`` that keeps CUDA's rules, with no GPU.

Memory on the device and pinned memory are real memory of this process; kernels do what a test's
``effects`` say. Streams are asynchronous: what is queued runs no sooner than somebody waits for it,
in the order that streams and events prescribe. What CUDA answers with an error is answered with
that error: no current context, what a capture forbids. What CUDA leaves undefined raises
``Misuse``: a pointer outside of live memory, pageable memory in a captured copy, memory freed while
queued work or a live graph points to it, handles used after their release or released twice,
garbage collection during a capture. Arguments also go through the conversion of the real bindings,
which check their types before they look for the driver.
"""

from __future__ import annotations

import ctypes
import gc
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver as real

from rdx_fast.kernels.gpu import driver as ours
from rdx_fast.kernels.gpu.launch import BASELINE, configuration
from rdx_fast.kernels.gpu.library import FORMAT, MANIFEST
from rdx_fast.kernels.gpu.operations import source_hash, variants
from support.checkout import GPU

LEGACY = (0, 1)  # handles of the default stream that waits for all blocking streams
ALIGNMENT = 256
_C_TYPES: dict[str, Any] = {"i32": ctypes.c_int32, "i64": ctypes.c_int64, "fp32": ctypes.c_float}


class Misuse(AssertionError):
    """Something that CUDA leaves undefined."""


class _Refused(Exception):
    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = getattr(real.CUresult, f"CUDA_ERROR_{status}")


@dataclass(eq=False)
class Memory:
    """An allocation."""

    size: int
    pinned: bool
    block: Any = field(repr=False)
    address: int = 0

    @classmethod
    def of(cls, size: int, pinned: bool) -> Memory:
        block = (ctypes.c_uint8 * (size + ALIGNMENT))()
        begin = ctypes.addressof(block)
        found = cls(size, pinned, block, begin + -begin % ALIGNMENT)
        ctypes.memset(found.address, 0xA5, size)
        return found


@dataclass(eq=False)
class Operation:
    """What a stream is told to do, and the memory that it touches."""

    name: str
    run: Callable[[], object]
    touched: list[Memory]


@dataclass(eq=False)
class _Event:
    recorded: tuple[_Stream, Operation] | None = None


@dataclass
class _Capture:
    thread: int
    operations: list[Operation] = field(default_factory=list)
    invalid: bool = False


@dataclass
class _Stream:
    blocking: bool
    pending: list[Operation] = field(default_factory=list)
    capture: _Capture | None = None


class RecordingDriver:
    """Stands for the module ``cuda.bindings.driver``.

    Args:
        architecture: compute capability of its GPU, 90 for 9.0

    Attributes:
        calls: how often each function was called
        order: names of all functions as they were called
        ran: names of the operations that ran, kernels by theirs, in order
        effects: by kernel, what it does with its arguments, which are given by name
        hurried: whether streams that do not block run before those that do, whichever is waited for
        failures: by function, statuses that its next calls answer with, None for success. After
            "ILLEGAL_ADDRESS" the context is of no more use, and every call answers so
    """

    def __init__(self, architecture: int = 90) -> None:
        self.architecture = architecture
        self.calls: Counter[str] = Counter()
        self.order: list[str] = []
        self.ran: list[str] = []
        self.effects: dict[str, Callable[[dict[str, Any]], object]] = {}
        self.failures: dict[str, list[str | None]] = {}
        self.misuses: list[str] = []
        self.hurried = False
        self._lost = False
        self._lock = threading.RLock()
        self._handles = count(0x100)
        self._legacy = _Stream(blocking=True)
        self._contexts = threading.local()
        self._memory: dict[int, Memory] = {}
        self._live: dict[str, dict[int, Any]] = {
            kind: {} for kind in ("context", "stream", "event", "graph", "exec", "module")
        }
        self._functions: dict[int, tuple[int, dict[str, Any]]] = {}
        self._converted: set[tuple[Any, ...]] = set()

    def __getattr__(self, name: str) -> Any:
        if not (name.startswith("cu") and name[2:3].isupper()):
            return getattr(real, name)
        model = object.__getattribute__(self, f"_{name}")
        return lambda *arguments: self._call(name, model, arguments)

    def check_released(self) -> None:
        """Raises ``Misuse`` for what is still held, and for misuse whose error was suppressed."""
        held = {kind: len(live) for kind, live in self._live.items() if live}
        if self._memory or held or self.misuses:
            sizes = [memory.size for memory in self._memory.values()]
            raise Misuse(f"still held: {held}, memory of {sizes} bytes; {self.misuses}")

    def capturing(self) -> bool:
        """Whether a stream is capturing."""
        return any(stream.capture for stream in self._live["stream"].values())

    def _call(self, name: str, model: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        self._convert(name, arguments)
        with self._lock:
            self.calls[name] += 1
            self.order.append(name)
            try:
                status = self.failures[name].pop(0) if self.failures.get(name) else None
                self._lost |= status == "ILLEGAL_ADDRESS"
                survives = name.startswith(("cuInit", "cuDriver", "cuCtx", "cuDevice", "cuGet"))
                if self._lost and not (survives and name != "cuDevicePrimaryCtxRetain"):
                    status = "ILLEGAL_ADDRESS"
                if status is not None:
                    raise _Refused(status)
                results = model(*arguments)
            except _Refused as refused:
                return (refused.status,)
            except Misuse as misuse:
                self.misuses.append(f"{name}: {misuse}")
                raise
        success = (real.CUresult.CUDA_SUCCESS,)
        return success if results is None else (*success, results)

    def _convert(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Let the real bindings convert arguments of new types; after that they find no driver."""
        types = (name, *map(type, arguments))
        if GPU or types in self._converted:
            return
        try:
            getattr(real, name)(*arguments)
        except RuntimeError:
            self._converted.add(types)
        except (TypeError, OverflowError, AttributeError) as error:
            raise Misuse(f"{name}{arguments} is not what the bindings take: {error}") from error

    # Devices and contexts

    def _cuInit(self, flags: int) -> None: ...

    def _cuDriverGetVersion(self) -> int:
        return 13000

    def _cuDeviceGetCount(self) -> int:
        return 1

    def _cuDeviceGet(self, ordinal: int) -> int:
        return ordinal

    def _cuDeviceGetName(self, length: int, device: int) -> bytes:
        return b"Recording GPU".ljust(length, b"\0")

    def _cuDeviceGetAttribute(self, attribute: Any, device: int) -> int:
        major = real.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
        return self.architecture // 10 if attribute == major else self.architecture % 10

    def _cuDevicePrimaryCtxRetain(self, device: int) -> Any:
        return real.CUcontext(self._new("context", None))

    def _cuDevicePrimaryCtxRelease(self, device: int) -> None:
        self._live["context"].popitem()
        if self._lost and not self._live["context"]:  # what it held goes with it
            self._memory.clear()
            for live in self._live.values():
                live.clear()

    def _cuCtxPushCurrent(self, context: Any) -> None:
        self._at("context", context)
        self._contexts.__dict__.setdefault("stack", []).append(int(context))

    def _cuCtxPopCurrent(self) -> Any:
        return real.CUcontext(self._contexts.stack.pop())

    def _cuCtxSynchronize(self) -> None:
        self._need_context()
        for stream in self._live["stream"].values():
            if stream.capture is not None:
                stream.capture.invalid = True
                raise _Refused("STREAM_CAPTURE_UNSUPPORTED")
        for stream in (self._legacy, *self._live["stream"].values()):
            self._drain(stream)

    def _cuGetErrorString(self, status: Any) -> bytes:
        return b"of the recording driver"

    # Memory

    def _cuMemAlloc(self, size: int) -> Any:
        return real.CUdeviceptr(self._allocate(size, pinned=False))

    def _cuMemHostAlloc(self, size: int, flags: int) -> int:
        return self._allocate(size, pinned=True)

    def _cuMemFree(self, pointer: Any) -> None:
        self._free(int(pointer), pinned=False)

    def _cuMemFreeHost(self, pointer: Any) -> None:
        self._free(int(pointer), pinned=True)

    def _allocate(self, size: int, pinned: bool) -> int:
        self._unsafe_in_capture()
        memory = Memory.of(size, pinned)
        self._memory[memory.address] = memory
        return memory.address

    def _free(self, pointer: int, pinned: bool) -> None:
        self._unsafe_in_capture()
        memory = self._memory.get(pointer)
        if memory is None or memory.pinned != pinned:
            raise Misuse(f"{pointer:#x} is freed, which is no such memory, or no more")
        for stream in (self._legacy, *self._live["stream"].values()):
            if any(memory in operation.touched for operation in stream.pending):
                raise Misuse(f"{memory} is freed while queued work uses it")
        for operations in self._live["exec"].values():
            if any(memory in operation.touched for operation in operations):
                raise Misuse(f"{memory} is freed while a live graph points to it")
        del self._memory[pointer]

    def _find(self, pointer: int, size: int = 1) -> Memory | None:
        for memory in self._memory.values():
            if memory.address <= pointer and pointer + size <= memory.address + memory.size:
                return memory
        return None

    # Streams and what is queued on them

    def _cuStreamCreate(self, flags: int) -> Any:
        self._unsafe_in_capture()
        non_blocking = int(real.CUstream_flags.CU_STREAM_NON_BLOCKING)
        return real.CUstream(self._new("stream", _Stream(blocking=not int(flags) & non_blocking)))

    def _cuStreamDestroy(self, handle: Any) -> None:
        self._at("stream", handle)
        del self._live["stream"][int(handle)]

    def _cuStreamSynchronize(self, handle: Any) -> None:
        stream = self._stream(handle)
        if stream.capture is not None:
            stream.capture.invalid = True
            raise _Refused("STREAM_CAPTURE_UNSUPPORTED")
        self._unsafe_in_capture()
        if self.hurried:
            for other in self._live["stream"].values():
                if other is not stream and not other.blocking:
                    self._drain(other)
        self._drain(stream)

    def _cuMemcpyAsync(self, target: Any, source: Any, size: int, handle: Any) -> None:
        ends = [self._find(int(end), size) for end in (target, source)]
        if ends[0] is None or (ends[1] is None and self._find(int(source))):
            raise Misuse(f"a copy of {size} bytes exceeds the memory that it is from or to")
        if ends[1] is None and self._stream(handle).capture:
            raise Misuse("a copy from pageable memory is captured: a replay would read it again")
        self._queue(
            Operation(
                "copy",
                lambda: ctypes.memmove(int(target), int(source), size),
                [end for end in ends if end is not None],
            ),
            handle,
        )

    def _cuMemsetD8Async(self, target: Any, byte: int, size: int, handle: Any) -> None:
        memory = self._find(int(target), size)
        if memory is None:
            raise Misuse(f"{size} bytes at {int(target):#x} are filled, which is no live memory")
        self._queue(
            Operation("fill", lambda: ctypes.memset(int(target), byte, size), [memory]),
            handle,
        )

    def _cuLaunchKernel(self, function: Any, *arguments: Any) -> None:
        handle, packed = arguments[-3:-1]
        module, kernel = self._functions[int(function)]
        if module not in self._live["module"]:
            raise Misuse(f"{kernel['name']} is launched, which was unloaded")
        places = (ctypes.c_void_p * len(kernel["parameters"])).from_address(packed)
        given, touched = {}, []
        for (name, kind), place in zip(kernel["parameters"], places, strict=True):
            if not kind.startswith("*"):
                given[name] = _C_TYPES[kind].from_address(place).value
                continue
            given[name] = ctypes.c_void_p.from_address(place).value
            memory = self._find(given[name] or 0)
            if memory is None:
                raise Misuse(f"{kernel['name']}: {name} points to {given[name]}, no live memory")
            touched.append(memory)
        effect = self.effects.get(kernel["kernel"], dict)
        given["images"] = arguments[1]
        self._queue(Operation(kernel["kernel"], lambda: effect(given), touched), handle)

    def _cuEventCreate(self, flags: int) -> Any:
        return real.CUevent(self._new("event", _Event()))

    def _cuEventRecord(self, event: Any, handle: Any) -> None:
        found = self._at("event", event)
        mark = Operation("event", lambda: None, [])
        self._queue(mark, handle)
        found.recorded = (self._stream(handle), mark)

    def _cuStreamWaitEvent(self, handle: Any, event: Any, flags: int) -> None:
        recorded = self._at("event", event).recorded
        if recorded is not None:
            self._queue(Operation("wait", lambda: self._drain(*recorded), []), handle)

    def _cuEventDestroy(self, event: Any) -> None:
        self._at("event", event)
        del self._live["event"][int(event)]

    def _queue(self, operation: Operation, handle: Any) -> None:
        self._need_context()
        if int(handle) in LEGACY:
            for stream in self._live["stream"].values():
                if stream.capture is not None and stream.blocking:
                    stream.capture.invalid = True
                    raise _Refused("STREAM_CAPTURE_IMPLICIT")
        stream = self._stream(handle)
        if stream.capture is None:
            stream.pending.append(operation)
            return
        if gc.isenabled():
            raise Misuse("the garbage collector may run during a capture")
        if stream.capture.invalid:
            raise _Refused("STREAM_CAPTURE_INVALIDATED")
        stream.capture.operations.append(operation)

    def _stream(self, handle: Any) -> _Stream:
        return self._legacy if int(handle) in LEGACY else self._at("stream", handle)

    def _drain(self, stream: _Stream, last: Operation | None = None) -> None:
        """Run what a stream holds, to its end or to an operation, if that has not run yet."""
        if last is not None and last not in stream.pending:
            return
        while stream.pending:
            operation = stream.pending.pop(0)
            if any(memory not in self._memory.values() for memory in operation.touched):
                raise Misuse(f"{operation.name} uses memory that was freed")
            if operation.name not in ("event", "wait"):
                self.ran.append(operation.name)
            operation.run()
            if operation is last:
                return

    # Graphs

    def _cuStreamBeginCapture(self, handle: Any, mode: Any) -> None:
        self._need_context()
        stream = self._at("stream", handle)
        assert mode == real.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        stream.capture = _Capture(threading.get_ident())

    def _cuStreamEndCapture(self, handle: Any) -> Any:
        stream = self._at("stream", handle)
        if stream.capture is None:
            raise _Refused("ILLEGAL_STATE")
        if stream.capture.thread != threading.get_ident():
            raise _Refused("STREAM_CAPTURE_WRONG_THREAD")
        capture, stream.capture = stream.capture, None
        if capture.invalid:
            raise _Refused("STREAM_CAPTURE_INVALIDATED")
        return real.CUgraph(self._new("graph", capture.operations))

    def _cuGraphInstantiate(self, graph: Any, flags: int) -> Any:
        return real.CUgraphExec(self._new("exec", self._at("graph", graph)))

    def _cuGraphDestroy(self, graph: Any) -> None:
        self._at("graph", graph)
        del self._live["graph"][int(graph)]

    def _cuGraphExecDestroy(self, executable: Any) -> None:
        self._at("exec", executable)
        del self._live["exec"][int(executable)]

    def _cuGraphLaunch(self, executable: Any, handle: Any) -> None:
        self._at("stream", handle).pending.extend(self._at("exec", executable))

    # Modules

    def _cuModuleLoadData(self, image: bytes) -> Any:
        self._need_context()
        self._unsafe_in_capture()
        return real.CUmodule(self._new("module", json.loads(image.rstrip(b"\0"))))

    def _cuModuleGetFunction(self, module: Any, name: bytes) -> Any:
        kernel = self._at("module", module)
        assert kernel["kernel"] == name.decode()
        handle = next(self._handles)
        self._functions[handle] = (int(module), kernel)
        return real.CUfunction(handle)

    def _cuFuncSetAttribute(self, function: Any, attribute: Any, value: int) -> None: ...

    def _cuModuleUnload(self, module: Any) -> None:
        self._at("module", module)
        del self._live["module"][int(module)]

    # Rules

    def _new(self, kind: str, value: Any) -> int:
        handle = next(self._handles)
        self._live[kind][handle] = value
        return handle

    def _at(self, kind: str, handle: Any) -> Any:
        if int(handle) not in self._live[kind]:
            raise Misuse(f"{kind} {int(handle):#x} is used, which does not exist, or no more")
        return self._live[kind][int(handle)]

    def _need_context(self) -> None:
        if not self._contexts.__dict__.get("stack"):
            raise _Refused("INVALID_CONTEXT")

    def _unsafe_in_capture(self) -> None:
        """For what a thread that captures must not call."""
        self._need_context()
        for stream in self._live["stream"].values():
            if stream.capture is not None and stream.capture.thread == threading.get_ident():
                stream.capture.invalid = True
                raise _Refused("STREAM_CAPTURE_UNSUPPORTED")


@contextmanager
def recording(monkeypatch: pytest.MonkeyPatch, architecture: int = 90) -> Iterator[RecordingDriver]:
    """Put a recording driver in place of the real one; all must be released at the end."""
    double = RecordingDriver(architecture)
    monkeypatch.setattr(ours, "bindings", lambda: double)
    monkeypatch.setattr("rdx_fast.kernels.gpu.library.bindings", lambda: double)
    yield double
    double.check_released()


def write_kernels(folder: Path) -> Path:
    """A folder of kernels that only the recording driver can load: each file says what it is."""
    folder.mkdir()
    kernels = []
    for variant in variants():
        about: dict[str, Any] = {
            "name": variant.name,
            "kernel": variant.kernel,
            "parameters": variant.parameters,
        }
        content = json.dumps(about).encode()
        (folder / f"{variant.name}.ptx").write_bytes(content)
        digest = sha256(content).hexdigest()
        file = {"file": f"{variant.name}.ptx", "sha256": digest, "cuda": ours.OLDEST}
        config = configuration(variant.configurations, BASELINE)
        kernels.append(
            {
                **about,
                "constants": variant.constants,
                "parameters": [
                    {"name": name, "type": kind, "aligned": False}
                    for name, kind in variant.parameters
                ],
                "hidden_pointers": 0,
                "builds": {
                    str(BASELINE): {
                        "ptx": file,
                        "blocks": config.blocks,
                        "num_warps": config.num_warps,
                        "shared_bytes": 0,
                    }
                },
            }
        )
    manifest = {"format": FORMAT, "source_sha256": source_hash(), "kernels": kernels}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def values(pointer: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The driver's memory at a pointer, as an array."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(pointer), dtype).reshape(shape)
