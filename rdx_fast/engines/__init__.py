"""Engines: each runs a bundle's network on one kind of hardware."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from importlib.util import find_spec

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.engines.engine import (
    Chunk,
    DeviceEngine,
    Engine,
    GpuOptions,
    HostEngine,
    Progress,
)
from rdx_fast.errors import DeviceLostError, EngineError, MissingDependencyError, NoDriverError
from rdx_fast.precision import choices, choose, gpu_capabilities

__all__ = [
    "BACKENDS",
    "Chunk",
    "DeviceEngine",
    "Engine",
    "GpuOptions",
    "HostEngine",
    "Progress",
    "open_engine",
    "runnable",
]

BACKENDS = ("auto", "openvino", "tensorrt", "torch")


def open_engine(
    bundle: Bundle,
    backend: str = "auto",
    threads: int | None = None,
    mode: str = "latency",
    gpu: GpuOptions | None = None,
    on_progress: Progress = lambda *_: None,
    precision: str | None = None,
) -> Engine:
    """Open a bundle's engine.

    Args:
        bundle: an opened bundle, see ``open_bundle``
        backend: "openvino" on a CPU, "tensorrt" or "torch" on a GPU; "auto" takes TensorRT if it is
            installed, there is a GPU and no CPU options are given, otherwise OpenVINO. The engine's
            description says which
        threads: CPU threads, see ``OpenVINOEngine``
        mode: "latency" or "throughput", on the CPU only, see ``OpenVINOEngine``
        gpu: see ``GpuOptions``; on a GPU only. None takes a stored TensorRT plan whatever its
            options (see ``TensorRTEngine``), else the defaults
        on_progress: called with step, steps done and steps in all while a TensorRT plan is built
        precision: executed precision ("fp32", "fp16", "bf16", "int8", "fp8"), None for the fastest
            that the bundle holds and the hardware supports (see ``rdx_fast.precision.choose``)

    Raises:
        TypeError: the bundle is not an opened one
        ValueError: unknown backend, mode or precision, or an option of another kind of hardware
        EngineError: the engine cannot be opened
        BundleError: plan or kernels are not signed by the key that the bundle was opened with
        MissingDependencyError: packages of the backend are not installed
    """
    if not isinstance(bundle, Bundle):
        raise TypeError(
            f"bundle is {bundle!r}, wanted an opened bundle: open_engine(open_bundle(path))"
        )
    _check_known(backend)
    on_cpu = threads is not None or mode != "latency"
    if backend == "openvino" and gpu is not None:
        raise ValueError(
            "gpu options are for GPUs, the backend is 'openvino': leave gpu out, or choose "
            "backend 'tensorrt' or 'torch'"
        )
    if backend in ("tensorrt", "torch") and on_cpu:
        raise ValueError(
            f"threads and mode are for CPUs, the backend is {backend!r}: leave them out, or choose "
            f"backend 'openvino'"
        )
    if backend == "auto":
        backend = _automatic(bundle, gpu, precision, on_cpu)
    # Imported here, since each takes longer to import than everything else together.
    if backend == "tensorrt":
        from rdx_fast.engines.tensorrt.engine import TensorRTEngine

        return TensorRTEngine(bundle, gpu, on_progress, precision)
    if backend == "torch":
        return _open_torch(bundle, gpu or GpuOptions(), precision)
    from rdx_fast.engines.openvino.engine import OpenVINOEngine

    return OpenVINOEngine(bundle, threads, mode, precision)


def runnable(
    bundle: Bundle,
    backend: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
) -> tuple[str, list[str]]:
    """What a bundle can execute here. Arguments and errors are those of ``open_engine``.

    Returns:
        the backend, "auto" resolved, and the executed precisions, fastest first
    """
    _check_known(backend)
    if backend == "auto":
        backend = _automatic(bundle, None, precision, threads is not None)
    able: Collection[str]
    if backend == "openvino":
        from rdx_fast.engines.openvino.compilation import capabilities

        able = capabilities()
    elif backend == "torch":
        able = ()  # its executions need nothing special
    else:
        from rdx_fast.kernels.gpu.driver import Gpu

        with Gpu(GpuOptions().device) as gpu:
            able = gpu_capabilities(gpu.architecture)
    found = choices(bundle.manifest, backend, able, precision)
    return backend, list(dict.fromkeys(choice.execution.executed for choice in found))


def _check_known(backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, wanted one of {', '.join(BACKENDS)}")


def _automatic(bundle: Bundle, gpu: GpuOptions | None, precision: str | None, on_cpu: bool) -> str:
    """The backend that "auto" stands for."""
    ready = not on_cpu and _gpu_is_ready(bundle, gpu or GpuOptions(), precision)
    return "tensorrt" if ready else "openvino"


def _open_torch(bundle: Bundle, gpu: GpuOptions, precision: str | None) -> Engine:
    try:
        from rdx_fast.engines.torch_engine import TorchEngine
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "triton", "onnx"):
            raise
        raise MissingDependencyError(error.name, "backend='torch'", "train,kernels") from error
    return TorchEngine(bundle, f"cuda:{gpu.device}", gpu, precision)


def _gpu_is_ready(bundle: Bundle, gpu: GpuOptions, precision: str | None) -> bool:
    """Whether TensorRT and our kernels can run here; warns if a GPU is present but not used."""
    if not any(map(find_spec, ("tensorrt", "tensorrt_rtx"))) or find_spec("cuda") is None:
        return False
    from rdx_fast.engines.tensorrt.api import load_api
    from rdx_fast.kernels.gpu.driver import Gpu
    from rdx_fast.kernels.gpu.library import KernelLibrary, find_kernels

    try:
        with Gpu(gpu.device) as found:
            choose(bundle.manifest, "tensorrt", gpu_capabilities(found.architecture), precision)
            key = bundle.public_key
            kernels = find_kernels(bundle.path, key)
            KernelLibrary(kernels, found.architecture, cuda=found.cuda, public_key=key)
            load_api().check(found.architecture)
    except (NoDriverError, MissingDependencyError):
        return False
    except DeviceLostError:
        raise
    except EngineError as error:
        warnings.warn(f"the CPU is used although there is a GPU: {error}", stacklevel=5)
        return False
    return True
