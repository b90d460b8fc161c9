"""The TensorRT engine: a bundle's network as a plan, between our own kernels, without torch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.manifest import Manifest
from rdx_fast.bundle.signature import made_signature
from rdx_fast.devices.cuda import CudaDevice
from rdx_fast.devices.device import EXCLUSIVE, BoundNetwork, Device
from rdx_fast.engines.engine import GpuOptions, Progress
from rdx_fast.engines.tensorrt.api import Api, Log, load_api
from rdx_fast.engines.tensorrt.build import GROUP, build_plan, find_plan, tensor_format
from rdx_fast.engines.tensorrt.plan import PlanKey, Target, write_whole
from rdx_fast.errors import EngineError, PlanError
from rdx_fast.kernels.gpu.driver import Gpu
from rdx_fast.kernels.gpu.library import DeviceArray, KernelLibrary, find_kernels
from rdx_fast.precision import choose, gpu_capabilities


class TensorRTEngine:
    """Runs one of a bundle's networks on an NVIDIA GPU.

    Its plan is read from the bundle's folder ``plans`` if there is one for exactly this network,
    GPU, driver, TensorRT and ``options``. Otherwise it is built, which takes seconds to minutes,
    and stored there. Without ``options`` a stored plan is used whatever its options: that of the
    defaults if there is one, else the one built last. For a bundle that was opened with a public
    key none is built: plan and kernels must lie in it, signed.

    Args:
        bundle: an opened bundle
        options: see ``GpuOptions``; None for those of a stored plan, and the defaults if there is
            none
        on_progress: called with the phase, steps done and steps in all while a plan is built
        precision: executed precision, None for the fastest that the bundle holds (see ``choose``)

    Raises:
        NoDriverError: there is no driver or no GPU
        DriverTooOldError: the driver is too old
        DeviceMemoryError: the GPU's memory is full
        PlanError: the plan cannot be built or loaded
        BundleError: plan or kernels are not signed by the bundle's public key
        MissingDependencyError: TensorRT is not installed
        EngineError: the kernels are not compiled, or the bundle holds nothing that TensorRT runs
            in the precision
        ValueError: unknown precision

    Attributes:
        manifest: of the bundle
        execution: which of the bundle's networks runs, in which precision, and its threshold
        options: of the plan that runs
    """

    def __init__(
        self,
        bundle: Bundle,
        options: GpuOptions | None = None,
        on_progress: Progress = lambda *_: None,
        precision: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.options = options or GpuOptions()
        self._gpu = Gpu(self.options.device)
        self._engine: Any = None
        self._config: Any = None
        self._runtime: Any = None
        try:
            able = gpu_capabilities(self._gpu.architecture)
            self.execution, self._reason = choose(self.manifest, "tensorrt", able, precision)
            with EXCLUSIVE, self._gpu.current():
                self._open(bundle, options, on_progress)
        except BaseException:
            self._engine = self._runtime = None
            self._gpu.close()
            raise

    @property
    def description(self) -> str:
        level = "" if self._api.rtx else f", optimization level {self.options.optimization_level}"
        return (
            f"{self._api.name} {self._gpu.name}, {self.execution.label} ({self._reason}), "
            f"batches to {self.max_batch}{level}"
        )

    @property
    def on_device(self) -> bool:
        return True

    @property
    def kernels(self) -> str:
        return f"sm_{self._kernels.architecture}"

    @property
    def max_batch(self) -> int:
        return self.options.max_batch

    @property
    def closed(self) -> bool:
        return self._engine is None

    def close(self) -> None:
        if self.closed:
            return
        with EXCLUSIVE:
            with suppress(EngineError), self._gpu.current():
                self._keep_jit_cache()
                self._engine = self._config = self._runtime = None  # before their context
                self._kernels.close()
            self._log.close()
            self._engine = self._config = self._runtime = None
            self._gpu.close()

    def _open(self, bundle: Bundle, options: GpuOptions | None, on_progress: Progress) -> None:
        public_key = bundle.public_key
        kernels, gpu = find_kernels(bundle.path, public_key), self._gpu
        self._kernels = KernelLibrary(
            kernels, gpu.architecture, cuda=gpu.cuda, public_key=public_key
        )
        self._kernels.load()
        self._api: Api = load_api()
        trt = self._api.module
        self._log = Log(trt)
        self._runtime = self._log.made("its runtime", trt.Runtime, EngineError)
        network = bundle.network(self.execution.stored)
        target = Target.of(self._gpu, self._api)
        key, plan = find_plan(network, bundle, target, self._api, options)
        self._key = key
        self.options = replace(
            self.options,
            max_batch=key.max_batch,
            workspace_mb=key.workspace_mb,
            optimization_level=key.optimization_level,
        )
        kept = plan is not None
        if plan is None:
            plan = self._built(network, key, on_progress)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None and kept:  # intact, but TensorRT rejects it
            plan = self._built(network, key, on_progress)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._log.error(f"TensorRT cannot load {key.file(bundle.path)}")
        self._check()
        self._jit_file: Path = key.file(bundle.path, "jit")
        self._config = self._context_config(trt)

    def _built(self, network: Path, key: PlanKey, on_progress: Progress) -> Any:
        if self.bundle.public_key is not None:
            raise PlanError(
                f"{self.bundle.path} holds no signed plan that {self._api.name} runs on "
                f"{self._gpu.name}, and only what is signed is loaded here: build and sign one "
                f"(rdx-fast plan --sign-key)"
            )
        return build_plan(network, key, self._api, on_progress)

    def _check(self) -> None:
        """Raises ``PlanError`` unless inputs and outputs match the manifest, and lie in memory as
        ``bind`` lays them out, in every profile."""
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        found = {name: tuple(engine.get_tensor_shape(name)) for name in names}
        wanted = io_shapes(self.manifest)
        if found != wanted:
            raise PlanError(
                f"the plan has inputs and outputs {found}, the manifest says {wanted}: export the "
                f"bundle again"
            )
        for name, profile in product(names, range(len(self._key.profiles))):
            lies, asked = engine.get_tensor_format(name, profile), self._format(name)
            if lies != asked:
                raise PlanError(
                    f"{name} of the plan has the format {lies.name} in profile {profile}, "
                    f"{asked.name} was asked for: use another version of {self._api.name}, or "
                    f"backend='torch'"
                )

    def _format(self, name: str) -> Any:
        """The memory format of an input or output."""
        return tensor_format(self._api.module, self._key, self._engine.get_tensor_dtype(name))

    def _context_config(self, trt: Any) -> Any:
        """How contexts are created: we allocate their memory, so that it is freed with the buffers
        of a batch size."""
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self._api.rtx:
            return strategy
        config = self._log.given("a runtime config", self._engine.create_runtime_config())
        config.set_execution_context_allocation_strategy(strategy)
        # A graph must record the kernels specialised for its sizes, not the generic ones that run
        # until those are compiled.
        eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = eager
        cache = self._log.given("a runtime cache", config.create_runtime_cache())
        if (compiled := self._jit_cache()) is not None:
            cache.deserialize(compiled)
        config.set_runtime_cache(cache)
        return config

    def _jit_cache(self) -> bytes | None:
        """What TensorRT for RTX compiled at an earlier start, if it may be loaded."""
        public_key = self.bundle.public_key
        if public_key is not None and not made_signature(self._jit_file).is_file():
            return None  # it is compiled anew, which takes longer
        try:
            compiled = self._jit_file.read_bytes()
        except OSError:
            return None
        if public_key is not None:
            public_key.check_made(self._jit_file, compiled)
        return compiled

    def _keep_jit_cache(self) -> None:
        """Store what TensorRT for RTX compiled, so that the next start need not compile it; not in
        the place of what was signed, nor where that alone would be loaded."""
        signed = self.bundle.public_key is not None or made_signature(self._jit_file).is_file()
        if self._api.rtx and not signed:
            with suppress(OSError):
                write_whole(self._jit_file, self._config.get_runtime_cache().serialize())

    def open_device(self) -> CudaDevice:
        if self.closed:
            raise EngineError("the engine is closed: open a new one")
        with self._gpu.current():
            return CudaDevice(self._gpu, self._kernels)

    def bind(self, device: Device, batch: int) -> BoundNetwork:
        assert isinstance(device, CudaDevice)
        if self.closed:
            raise EngineError("the engine is closed: open a new one")
        stream = int(device.stream)
        context = self._log.given(
            "an execution context",
            self._engine.create_execution_context(self._config),
            EngineError,
        )
        shapes = {n: (batch, *shape[1:]) for n, shape in io_shapes(self.manifest).items()}
        errors = self._log.errors
        profile = sum(batch > largest for _, _, largest in self._key.profiles)
        try:
            taken = context.set_optimization_profile_async(profile, stream)
        except RuntimeError:  # how the bindings say that it failed
            taken = False
        if not (taken and context.set_input_shape("image", shapes["image"])):
            raise self._log.error(f"TensorRT takes no batch of {batch}", EngineError)
        arrays = {name: self._allocate(device, name, shape) for name, shape in shapes.items()}
        for name, array in arrays.items():
            if not context.set_tensor_address(name, array.pointer):
                raise self._log.error(f"TensorRT takes no memory for {name}", EngineError)
        size = context.update_device_memory_size_for_shapes()
        if not size and self._log.errors > errors:  # 0 also says that it failed
            raise self._log.error("TensorRT could not size its memory", EngineError)
        if size:
            context.set_device_memory(device.stream.allocate(size), size)
        scales = range(len(self.manifest.scales))
        teacher, student = ([arrays[f"{p}_{s}"] for s in scales] for p in ("teacher", "student"))

        def run() -> tuple[list[DeviceArray], list[DeviceArray]]:
            if not context.execute_async_v3(stream):
                raise self._log.error("TensorRT failed while running the network", EngineError)
            return teacher, student

        return BoundNetwork(arrays["image"], run)

    def _allocate(self, device: CudaDevice, name: str, shape: tuple[int, ...]) -> DeviceArray:
        """Memory for an input or output, as the plan lays it out."""
        trt = self._api.module
        dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
        if self._format(name) == trt.TensorFormat.LINEAR:
            return device.empty(shape, dtype)
        batch, channels, height, width = shape
        padded = -(-channels // GROUP) * GROUP
        strides = (height * width * padded, 1, width * padded, padded)
        block = device.empty((batch * strides[0] * dtype.itemsize,), np.uint8)
        if padded > channels:  # read with the pixels: NaN there would spread
            device.fill(block, 0)
        return DeviceArray(block.pointer, shape, dtype, strides)


def io_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Shapes of a plan's input and outputs by name, with -1 for the batch."""
    spec = manifest.input
    maps = {name: (-1, *shape) for name, shape in manifest.output_shapes().items()}
    return {"image": (-1, 3, spec.height, spec.width), **maps}
