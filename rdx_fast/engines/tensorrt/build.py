"""Building TensorRT plans from the exported network, in the precision that its graph specifies."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.engines.engine import GpuOptions, Progress
from rdx_fast.engines.tensorrt.api import Api, Log, load_api
from rdx_fast.engines.tensorrt.plan import (
    PlanKey,
    Target,
    load_plan,
    save_plan,
    stated_keys,
    write_whole,
)
from rdx_fast.errors import EngineError, NoDriverError, PlanError
from rdx_fast.kernels.gpu.driver import Gpu
from rdx_fast.precision import choose, gpu_capabilities

# Raise it with every change of what is asked of the builder: plans of another recipe may have other
# layouts in the same shapes.
RECIPE = 2
GROUP = 8  # channels that lie together in TensorRT's format HWC8


def plan_key(
    network: Path, bundle: Bundle, target: Target, api: Api, options: GpuOptions
) -> PlanKey:
    """What a plan of a bundle's network is built from and for.

    Raises:
        PlanError: this TensorRT builds no plans for the GPU or with one of the options, or our
            kernels do not run on the GPU
    """
    api.check(target.compute_capability)
    if api.rtx and options.optimization_level != GpuOptions().optimization_level:
        raise PlanError(
            f"optimization_level is {options.optimization_level}, and {api.name} builds the same "
            f"plan at each, since it measures nothing while it builds: leave the level at its "
            f"default, or install the package tensorrt on the machine with the GPU"
        )
    # Channels-last as most kernels of TensorRT work, and as ours read it: with all channels in
    # groups of eight nothing has to be rearranged between them.
    in_groups = all(scale.channels % GROUP == 0 for scale in bundle.manifest.scales)
    return PlanKey(
        network=bundle.manifest.files[network.name].sha256,
        runtime=api.name,
        gpu=target.gpu,
        driver=target.driver,
        compute_capability=target.compute_capability,
        profiles=options.profiles,
        workspace_mb=options.workspace_mb,
        optimization_level=options.optimization_level,
        half_format="HWC8" if in_groups else "LINEAR",
        recipe=RECIPE,
    )


def find_plan(
    network: Path, bundle: Bundle, target: Target, api: Api, options: GpuOptions | None
) -> tuple[PlanKey, bytes | None]:
    """The plan to run and its key; if the bundle does not hold it, the key to build it with.

    Args:
        network: the ONNX file in the bundle
        bundle: an opened bundle
        target: what the plan has to run on
        api: the installed TensorRT
        options: exactly these; None for a stored plan whatever its options, that of the defaults
            first, else the one built last; without one, for the defaults

    Raises:
        PlanError: as ``plan_key`` does
        BundleError: the plan is not signed by the key that the bundle was opened with
    """
    key = plan_key(network, bundle, target, api, options or GpuOptions())
    plan = load_plan(key.file(bundle.path), key, bundle.public_key)
    if plan is None and options is None:
        for stored in filter(key.differs_in_options, stated_keys(bundle.path)):
            found = load_plan(stored.file(bundle.path), stored, bundle.public_key)
            if found is not None:
                return stored, found
    return key, plan


def build_plan(
    network_file: Path, key: PlanKey, api: Api, on_progress: Progress = lambda *_: None
) -> Any:
    """Build a plan and store it with the builder's log in the bundle.

    Args:
        network_file: the ONNX file in the bundle
        key: what the plan is built from and for
        api: the installed TensorRT
        on_progress: called with the phase, steps done and steps in all

    Returns:
        the serialised plan, bytes-like

    Raises:
        PlanError: TensorRT cannot build it, or the bundle's folder ``plans`` is not writable
        DeviceMemoryError: the GPU's memory or the workspace is full
    """
    trt = api.module
    bundle = network_file.parent
    path = key.file(bundle)
    try:
        path.parent.mkdir(exist_ok=True)
        log = Log(trt, path.with_suffix(".log"))
    except OSError as error:
        raise PlanError(
            f"plans are stored in {path.parent}, which cannot be written to ({error.strerror}): "
            f"make it writable for the first start, or copy a bundle with a built plan here"
        ) from error
    try:
        builder = log.made("its builder", trt.Builder)
        network, _parser = parse(network_file, key, api, log, builder)
        config = configure(builder, network, key, api, log)
        config.progress_monitor = _monitor(trt, on_progress)
        timings = timings_file(key, bundle)
        # TensorRT for RTX measures nothing before the first run.
        cache = None if api.rtx else _timing_cache(config, timings, log)
        plan = log.given(
            f"a plan of {network_file}", builder.build_serialized_network(network, config)
        )
        save_plan(path, key, plan)
        if cache is not None:
            write_whole(timings, log.given("its timings", cache.serialize()))
        return plan
    finally:
        log.close()


def prepare_kernels(bundle: Bundle) -> Path:
    """Find the folder of compiled kernels; without one, compile them into the bundle with Triton.

    Raises:
        EngineError: there are no compiled kernels, and Triton is not installed or cannot compile
            them
        BundleError: those in the bundle are not signed by the key that it was opened with
    """
    from rdx_fast.kernels.gpu.library import KERNELS, find_kernels

    try:
        return find_kernels(bundle.path, bundle.public_key)
    except EngineError:
        if find_spec("triton") is None:
            raise
    # In a process of its own: it forks, which this one must not once CUDA or torch have threads.
    folder = bundle.path / KERNELS
    command = [sys.executable, "-P", "-m", "rdx_fast.kernels.aot", str(folder)]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip().removeprefix("error: ") or f"exit status {done.returncode}"
        raise EngineError(f"Triton could not compile the GPU's kernels into {folder}: {words}")
    return find_kernels(bundle.path)


class PreparedPlan(NamedTuple):
    """A plan in a bundle.

    Attributes:
        file: the plan's file
        key: what it was built from and for
        built: whether it was built now; otherwise it was there already
    """

    file: Path
    key: PlanKey
    built: bool


def prepare_plan(
    bundle: Bundle,
    options: GpuOptions | None = None,
    compute_capability: int | None = None,
    on_progress: Progress = lambda *_: None,
    precision: str | None = None,
) -> PreparedPlan:
    """Build the plan that the engine will look for, unless it is already in the bundle.

    Args:
        bundle: an opened bundle
        options: as the engine will be opened with; None takes a stored plan whatever its options,
            and builds with the defaults if there is none
        compute_capability: build for any GPU of it (86 for 8.6), which needs TensorRT for RTX and
            no GPU in this machine; None builds for the GPU of this machine
        on_progress: called with the phase, steps done and steps in all
        precision: executed precision, None for the fastest that the bundle holds

    Raises:
        EngineError: and its subclasses, as ``TensorRTEngine`` does
        BundleError: as ``find_plan`` does
        NoDriverError: there is no compute capability, driver or GPU to build for
        MissingDependencyError: TensorRT is not installed, or not that for RTX, which a compute
            capability needs
    """
    api = load_api(rtx=compute_capability is not None)
    with ExitStack() as stack:
        if compute_capability is None:
            gpu = stack.enter_context(_this_gpu(options or GpuOptions()))
            stack.enter_context(gpu.current())
            target = Target.of(gpu, api)
        else:
            target = Target.of_capability(compute_capability)
        able = gpu_capabilities(target.compute_capability)
        choice = choose(bundle.manifest, "tensorrt", able, precision)
        network = bundle.network(choice.execution.stored)
        key, plan = find_plan(network, bundle, target, api, options)
        if plan is None:
            build_plan(network, key, api, on_progress)
    return PreparedPlan(key.file(bundle.path), key, built=plan is None)


def _this_gpu(options: GpuOptions) -> Gpu:
    """This machine's GPU, to build a plan for."""
    try:
        return Gpu(options.device)
    except NoDriverError as error:
        raise NoDriverError(
            error.reason,
            "build for another machine's GPU with --compute-capability X.Y (TensorRT for RTX), or "
            "run this on the machine with the GPU",
        ) from error


def parse(file: Path, key: PlanKey, api: Api, log: Log, builder: Any) -> tuple[Any, Any]:
    """Parse a network with the types of its graph and the formats of its plan.

    Returns:
        the network, and the parser, which must be kept until the plan is built

    Raises:
        PlanError: TensorRT cannot read the file
    """
    trt = api.module
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = log.given("a network", builder.create_network(typed))
    parser = log.made("its parser", lambda logger: trt.OnnxParser(network, logger))
    if not parser.parse_from_file(str(file)):
        words = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise PlanError(f"TensorRT cannot read {file}: {words}")
    for tensor in inputs_and_outputs(network):
        tensor.allowed_formats = 1 << int(tensor_format(trt, key, tensor.dtype))
    return network, parser


def inputs_and_outputs(network: Any) -> list[Any]:
    """The tensors of a parsed network, its input first."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    return inputs + [network.get_output(i) for i in range(network.num_outputs)]


def tensor_format(trt: Any, key: PlanKey, dtype: Any) -> Any:
    """The memory format of an input or output of a plan by its ``trt.DataType``."""
    return getattr(trt.TensorFormat, key.half_format if dtype == trt.DataType.HALF else "LINEAR")


def configure(builder: Any, network: Any, key: PlanKey, api: Api, log: Log) -> Any:
    """The builder's configuration for a parsed network, without its timing cache.

    Raises:
        PlanError: TensorRT takes no such batches
    """
    trt = api.module
    config = log.given("a configuration", builder.create_builder_config())
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 is executed as such
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, key.workspace_mb * 2**20)
    image = network.get_input(0)
    for batches in key.profiles:
        profile = log.given("a profile", builder.create_optimization_profile())
        profile.set_shape(image.name, *((batch, *tuple(image.shape)[1:]) for batch in batches))
        if config.add_optimization_profile(profile) < 0:
            raise log.error(f"TensorRT takes no profile for batches of {batches}")
    if not api.rtx:
        config.builder_optimization_level = key.optimization_level
        if key.optimization_level == 5:
            config.tiling_optimization_level = trt.TilingOptimizationLevel.FULL
        return config
    # Without memory of its own: it could not take any while a graph is recorded.
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    # For this compute capability, whichever GPU is present, if any.
    config.num_compute_capabilities = 1
    aim = getattr(trt.ComputeCapability, f"SM{key.compute_capability}")
    config.set_compute_capability(aim, 0)
    return config


def _timing_cache(config: Any, file: Path, log: Log) -> Any:
    """What the builder measured before, to which it adds; nothing if it does not accept that."""
    for known in (file.read_bytes() if file.is_file() else b"", b""):
        cache = config.create_timing_cache(known)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return cache
    raise log.error("TensorRT could not create a timing cache")


def timings_file(key: PlanKey, bundle: Path) -> Path:
    """The file with the builder's timings for this GPU and driver."""
    parts = (key.runtime, key.gpu, key.driver, str(key.compute_capability))
    name = "-".join("".join(c if c.isalnum() or c == "." else "_" for c in part) for part in parts)
    return key.file(bundle).with_name(f"{name}.timings")


def _monitor(trt: Any, on_progress: Progress) -> Any:
    """A progress monitor that reports the steps of every phase; phases are nested."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.steps[name] = steps
            on_progress(name, 0, steps)

        def step_complete(self, name: str, step: int) -> bool:
            on_progress(name, step + 1, self.steps[name])
            return True

        def phase_finish(self, name: str) -> None:
            on_progress(name, self.steps[name], self.steps.pop(name))

    return Monitor()
