"""Building TensorRT plans from the exported network, in the precision that its graph specifies."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rdx_fast.bundle import Bundle
from rdx_fast.engines.engine import GpuOptions, Progress
from rdx_fast.engines.tensorrt.api import Api, Log, load_api
from rdx_fast.engines.tensorrt.plan import PlanKey, Target, load_plan, save_plan, write_whole
from rdx_fast.errors import EngineError, PlanError
from rdx_fast.kernels.gpu.driver import Gpu
from rdx_fast.precision import choose

# Raise it with every change of what is asked of the builder: plans of another recipe may have other
# layouts in the same shapes.
RECIPE = 1


def plan_key(
    network: Path, bundle: Bundle, target: Target, api: Api, options: GpuOptions
) -> PlanKey:
    return PlanKey(
        network=bundle.manifest.files[network.name].sha256,
        runtime=api.name,
        gpu=target.gpu,
        driver=target.driver,
        compute_capability=target.compute_capability,
        batches=options.batches,
        workspace_mb=options.workspace_mb,
        recipe=RECIPE,
    )


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
        DeviceMemoryError: the GPU's memory is full
    """
    trt = api.module
    api.check(key.compute_capability)
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
        network, _parser = parse(network_file, api, log, builder)
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # float32 is executed as such
        config.add_optimization_profile(_profile(builder, network, key.batches))
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, key.workspace_mb * 2**20)
        config.progress_monitor = _monitor(trt, on_progress)
        if api.rtx:  # for this compute capability, whichever GPU is present, if any
            config.num_compute_capabilities = 1
            aim = getattr(trt.ComputeCapability, f"SM{key.compute_capability}")
            config.set_compute_capability(aim, 0)
        timings = timings_file(key, bundle)
        if not api.rtx:  # TensorRT for RTX measures nothing before the first run
            known = timings.read_bytes() if timings.is_file() else b""
            config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise log.error(f"TensorRT built no plan of {network_file}")
        save_plan(path, key, plan)
        if not api.rtx:
            write_whole(timings, config.get_timing_cache().serialize())
        return plan
    finally:
        log.close()


def prepare_kernels(bundle: Bundle) -> Path:
    """Find the folder of compiled kernels; without one, compile them into the bundle with Triton.

    Raises:
        EngineError: there are no compiled kernels and Triton is not installed
    """
    from rdx_fast.kernels.gpu.library import KERNELS, find_kernels

    try:
        return find_kernels(bundle.path)
    except EngineError:
        if find_spec("triton") is None:
            raise
    from rdx_fast.kernels.aot import build

    return build(bundle.path / KERNELS).parent


def prepare_plan(
    bundle: Bundle,
    options: GpuOptions | None = None,
    compute_capability: int | None = None,
    on_progress: Progress = lambda *_: None,
    precision: str | None = None,
) -> Path:
    """Build the plan that the engine will look for, unless it is already in the bundle.

    Args:
        bundle: an opened bundle
        options: as the engine will be opened with; None for the defaults
        compute_capability: build for any GPU of it (86 for 8.6), which needs TensorRT for RTX and
            no GPU in this machine; None builds for the GPU of this machine
        on_progress: called with the phase, steps done and steps in all
        precision: executed precision, None for the fastest that the bundle holds

    Returns:
        the plan's file

    Raises:
        EngineError: and its subclasses, as ``TensorRTEngine`` does
        MissingDependencyError: TensorRT is not installed
    """
    options, api = options or GpuOptions(), load_api()
    with ExitStack() as stack:
        if compute_capability is None:
            gpu = stack.enter_context(Gpu(options.device))
            stack.enter_context(gpu.current())
            target = Target.of(gpu, api)
        elif api.rtx:
            target = Target.of_capability(compute_capability)
        else:
            raise PlanError(
                f"{api.name} builds plans only for the GPU of this machine: leave the compute "
                f"capability out, or install TensorRT for RTX instead (tensorrt-rtx-cu13)"
            )
        network = bundle.network(
            choose(bundle.manifest, "tensorrt", (), precision).execution.stored
        )
        key = plan_key(network, bundle, target, api, options)
        path = key.file(bundle.path)
        if load_plan(path, key) is None:
            build_plan(network, key, api, on_progress)
    return path


def parse(file: Path, api: Api, log: Log, builder: Any) -> tuple[Any, Any]:
    """Parse a network with the types of its graph.

    Returns:
        the network, and the parser, which must be kept until the plan is built

    Raises:
        PlanError: TensorRT cannot read the file
    """
    trt = api.module
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(file)):
        words = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise PlanError(f"TensorRT cannot read {file}: {words}")
    return network, parser


def _profile(builder: Any, network: Any, batches: tuple[int, int, int]) -> Any:
    image = network.get_input(0)
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, *((batch, *tuple(image.shape)[1:]) for batch in batches))
    return profile


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
