"""Runs the GPU kernels that were built ahead of time, through cuda-python: no torch, no Triton.

Needs the package cuda-bindings and NVIDIA's driver.
"""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rdx_fast.errors import EngineError
from rdx_fast.kernels.gpu.driver import bindings, call, check_version
from rdx_fast.kernels.gpu.launch import ALIGNMENT, BASELINE, ELEMENTS, Launch, dtype_name
from rdx_fast.kernels.gpu.operations import source_hash

if TYPE_CHECKING:
    from rdx_fast.bundle.signature import PublicKey

_TYPES = {"i32": ctypes.c_int32, "i64": ctypes.c_int64, "fp32": ctypes.c_float}
_LARGE_SHARED = 48 * 1024  # more than this is asked of the driver first
THREADS_A_WARP = 32
MANIFEST = "kernels.json"  # of a folder of built kernels
FORMAT = 3
KERNELS = "kernels"  # a folder inside the bundle
BUILT = Path(__file__).parents[1] / "built"


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """Memory on the GPU: an address, and how it is laid out (``strides`` in elements)."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    strides: tuple[int, ...]

    @classmethod
    def contiguous(cls, pointer: int, shape: Sequence[int], dtype: Any) -> DeviceArray:
        strides = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
        return cls(pointer, tuple(shape), np.dtype(dtype), strides)

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def stride(self) -> tuple[int, ...]:
        return self.strides

    def data_ptr(self) -> int:
        return self.pointer

    def unsqueeze(self, dim: int) -> DeviceArray:
        """With an axis of one more, as torch's tensors do it."""
        shape, strides = list(self.shape), list(self.strides)
        shape.insert(dim, 1)
        strides.insert(dim, 0)
        return DeviceArray(self.pointer, tuple(shape), self.dtype, tuple(strides))

    def narrow(self, dim: int, start: int, length: int) -> DeviceArray:
        """Part of it along one axis, as torch's tensors do it."""
        shape = (*self.shape[:dim], length, *self.shape[dim + 1 :])
        begin = self.pointer + start * self.strides[dim] * self.dtype.itemsize
        return DeviceArray(begin, shape, self.dtype, self.strides)


class KernelLibrary:
    """The kernels that ``rdx_fast.kernels.aot`` built, for the current CUDA context.

    Cubins of exactly the GPU's architecture are used if the driver takes them, else the baseline's
    PTX, which the driver compiles on loading. Kernels are loaded on their first launch, or all by
    ``load``; a context manager.

    Args:
        folder: where they were built
        architecture: compute capability of the GPU, 90 for 9.0
        cuda: CUDA version that the driver supports, 12080 for 12.8
        public_key: that must have signed them, if they are not the installation's; None takes
            unsigned ones too

    Attributes:
        architecture: compute capability that launches must be made for: the GPU's with cubins,
            the baseline's with PTX

    Raises:
        DriverTooOldError: the driver takes neither the cubins nor the PTX
        EngineError: the folder is incomplete or of other sources, the GPU is too old, a kernel was
            not built, or the driver refuses
        BundleError: the kernels are not signed by the key
    """

    def __init__(
        self, folder: Path, architecture: int, *, cuda: int, public_key: PublicKey | None = None
    ) -> None:
        if architecture < BASELINE:
            raise EngineError(
                f"the GPU has compute capability {architecture / 10:.1f}, the kernels need "
                f"{BASELINE / 10:.1f} or higher"
            )
        self._folder = folder
        self._kernels = _read_manifest(folder, public_key)
        cubins = all(_takes_cubin(kernel, architecture, cuda) for kernel in self._kernels)
        self._kind = "cubin" if cubins else "ptx"
        self.architecture = architecture if cubins else BASELINE
        if not cubins:  # a driver compiles PTX of its own CUDA version and of earlier ones
            check_version(cuda, max(self._build(k)["ptx"]["cuda"] for k in self._kernels))
        self._loaded: dict[str, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    def choose(self, launch: Launch) -> dict[str, Any]:
        """The built kernel, as ``kernels.json`` describes it, that a launch asks for."""
        for kernel in self._kernels:
            if kernel["kernel"] == launch.kernel and _fits(kernel, launch):
                return kernel
        types = [dtype_name(x) for x in launch.arguments if hasattr(x, "dtype")]
        raise EngineError(
            f"{self._folder} holds no {launch.kernel} for {launch.constants} and {types}: build "
            f"the kernels again with  python -m rdx_fast.kernels.aot  of this version"
        )

    def image(self, kernel: dict[str, Any]) -> bytes:
        """Code of a kernel for this GPU and driver: a cubin, else PTX."""
        file = self._build(kernel)[self._kind]
        content = (self._folder / file["file"]).read_bytes()
        if sha256(content).hexdigest() != file["sha256"]:
            raise EngineError(
                f"{self._folder / file['file']} is not what {MANIFEST} says: build the kernels "
                f"again"
            )
        return content

    def prepare(self, launch: Launch) -> PreparedLaunch:
        """Choose and load a launch's kernel and pack its arguments. Arrays are ``DeviceArray``s,
        and must live until the last start is done."""
        kernel = self.choose(launch)
        function = self._function(kernel)
        build = self._build(kernel)
        if any(launch.constants[name] != size for name, size in build["blocks"].items()):
            raise EngineError(
                f"{kernel['name']} was built with blocks {build['blocks']}, the launch is for "
                f"{launch.constants}: build the kernels again"
            )
        threads = THREADS_A_WARP * build["num_warps"]
        sizes = (*launch.grid, 1, threads, 1, 1, build["shared_bytes"])
        return PreparedLaunch(function, sizes, Packed(kernel, launch.arguments))

    def launch(self, launch: Launch, stream: int = 0) -> None:
        """Start a kernel on a CUDA stream."""
        self.prepare(launch).start(stream)

    def load(self) -> None:
        """Load all kernels now, instead of each on its first launch."""
        for kernel in self._kernels:
            self._function(kernel)

    def close(self) -> None:
        """Unload the kernels."""
        for module, _ in self._loaded.values():
            call("cuModuleUnload", module)
        self._loaded.clear()

    def __enter__(self) -> KernelLibrary:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _build(self, kernel: dict[str, Any]) -> dict[str, Any]:
        return kernel["builds"][str(self.architecture)]

    def _function(self, kernel: dict[str, Any]) -> Any:
        with self._lock:
            if kernel["name"] not in self._loaded:
                self._loaded[kernel["name"]] = self._load(kernel)
            return self._loaded[kernel["name"]][1]

    def _load(self, kernel: dict[str, Any]) -> tuple[Any, Any]:
        content, build = self.image(kernel), self._build(kernel)
        module = call("cuModuleLoadData", content + b"\0")
        function = call("cuModuleGetFunction", module, kernel["kernel"].encode())
        if build["shared_bytes"] > _LARGE_SHARED:
            attributes = bindings().CUfunction_attribute
            most = attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            call("cuFuncSetAttribute", function, most, build["shared_bytes"])
        return module, function


def find_kernels(bundle: Path, public_key: PublicKey | None = None) -> Path:
    """The folder of built kernels: the bundle's own, else the installation's.

    Args:
        bundle: folder of the bundle
        public_key: that must have signed the bundle's own; None takes unsigned ones too

    Raises:
        EngineError: neither holds the kernels of this version of rdx_fast
        BundleError: the bundle's own are not signed by the key
    """
    refused = []
    for folder in (bundle / KERNELS, BUILT):
        if (folder / MANIFEST).is_file():
            try:
                _read_manifest(folder, public_key)
            except EngineError as error:
                refused.append(str(error))
                continue
            return folder
    why = "; ".join(refused) or (
        f"{bundle} has no folder '{KERNELS}' and this installation holds no built kernels"
    )
    raise EngineError(
        f"{why}. A GPU needs them: on a machine with Triton (extra kernels), which needs no GPU, "
        f"run  python -m rdx_fast.kernels.aot {bundle / KERNELS}"
    )


def describe_kernels(folder: Path) -> str:
    """A folder of built kernels on one line: how many, for which compute capabilities.

    Raises ``EngineError`` if it does not hold the kernels of this version of rdx_fast.
    """
    kernels = _read_manifest(folder)
    built = sorted({int(one) for kernel in kernels for one in kernel["builds"]})
    words = ", ".join(f"{one / 10:.1f}" for one in built)
    return f"{len(kernels)} kernels for compute capability {words}"


class Packed:
    """A kernel's arguments as the driver takes them: ``address`` of an array of pointers to them.

    Keep it until the launch returns. Raises ``ValueError`` for another number of arguments, or an
    array that does not begin where the kernel was built for.
    """

    def __init__(self, kernel: dict[str, Any], arguments: Sequence[Any]) -> None:
        parameters = kernel["parameters"]
        if len(arguments) != len(parameters):
            raise ValueError(
                f"{kernel['name']} takes {len(parameters)} arguments, {len(arguments)} were given"
            )
        for p, a in zip(parameters, arguments, strict=True):
            if p["aligned"] and a.pointer % ALIGNMENT:
                raise ValueError(
                    f"{kernel['name']}: {p['name']} begins at {a.pointer:#x}, no multiple of "
                    f"{ALIGNMENT} bytes"
                )
        self.values: list[Any] = [
            ctypes.c_void_p(a.pointer) if p["type"].startswith("*") else _TYPES[p["type"]](a)
            for p, a in zip(parameters, arguments, strict=True)
        ]
        self.values += [ctypes.c_void_p(None)] * kernel["hidden_pointers"]
        addresses = [ctypes.addressof(value) for value in self.values]
        self.pointers = (ctypes.c_void_p * len(addresses))(*addresses)

    @property
    def address(self) -> int:
        return ctypes.addressof(self.pointers)


class PreparedLaunch(NamedTuple):
    """A launch that can be started any number of times.

    Attributes:
        function: the driver's handle of the kernel
        sizes: grid, block and bytes of shared memory, as the driver takes them
        packed: its arguments
    """

    function: Any
    sizes: tuple[int, ...]
    packed: Packed

    def start(self, stream: int) -> None:
        """Start the kernel on a CUDA stream."""
        call("cuLaunchKernel", self.function, *self.sizes, stream, self.packed.address, 0)


def _fits(kernel: dict[str, Any], launch: Launch) -> bool:
    """Whether constants and element types are the launch's. Block sizes are each build's own."""
    if any(launch.constants[name] != value for name, value in kernel["constants"].items()):
        return False
    return all(
        parameter["type"] == f"*{ELEMENTS.get(dtype_name(argument))}"
        for parameter, argument in zip(kernel["parameters"], launch.arguments, strict=True)
        if parameter["type"].startswith("*")
    )


def _takes_cubin(kernel: dict[str, Any], architecture: int, cuda: int) -> bool:
    """Whether there is a cubin for a GPU, and a driver takes it: one of the assembler's major
    version of CUDA or a later one does, whatever the minor version. See NVIDIA's "CUDA
    Compatibility", "Minor Version Compatibility"."""
    build = kernel["builds"].get(str(architecture))
    return build is not None and build["cubin"]["cuda"] // 1000 <= cuda // 1000


def _read_manifest(folder: Path, public_key: PublicKey | None = None) -> list[dict[str, Any]]:
    """The kernels of a folder. What was read is what the signature is checked of."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        manifest = json.loads(content)
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{path} cannot be read ({error}): build the kernels with  "
            f"python -m rdx_fast.kernels.aot {folder}"
        ) from error
    if manifest.get("format") != FORMAT:
        raise EngineError(
            f"{path} has format {manifest.get('format')}, this rdx_fast reads {FORMAT}: build the "
            f"kernels again"
        )
    if manifest["source_sha256"] != source_hash():
        raise EngineError(
            f"{path}: these kernels were built from sources other than those of this rdx_fast: "
            f"build them again"
        )
    if public_key is not None and folder != BUILT:
        public_key.check_made(path, content)
    return manifest["kernels"]
