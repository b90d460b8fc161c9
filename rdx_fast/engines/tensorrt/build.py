"""Building plans: the network parsed as exported, its precision as the graph says."""

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
    )


def build_plan(
    network_file: Path, key: PlanKey, api: Api, on_progress: Progress = lambda *_: None
) -> Any:
    """Build the plan of a bundle's network for ``key``, keep it with the builder's log in the
    bundle, and return it.

    Raises ``PlanError`` if TensorRT refuses, or the folder cannot be written to;
    ``DeviceMemoryError``.
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
            f"plans are kept in {path.parent}, which cannot be written to ({error.strerror}): make "
            f"it writable for the first start, or copy a bundle here whose plan is built"
        ) from error
    try:
        builder = trt.Builder(log.logger)
        network, _parser = parse(network_file, api, log, builder)
        config = builder.create_builder_config()
        config.add_optimization_profile(_profile(builder, network, key.batches))
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, key.workspace_mb * 2**20)
        config.progress_monitor = _monitor(trt, on_progress)
        if api.rtx:  # for that compute capability, whatever GPU is here, or none
            config.num_compute_capabilities = 1
            aim = getattr(trt.ComputeCapability, f"SM{key.compute_capability}")
            config.set_compute_capability(aim, 0)
        timings = timings_file(key, bundle)
        if not api.rtx:  # which measures nothing before the first run
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
    """The folder of built kernels, made inside the bundle if there is none and Triton is here.

    Raises ``EngineError`` if there is none, and no Triton either."""
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
    """Make sure that the plan which the engine will look for is there, and return its file.

    It is for the GPU of this machine, or for any with ``compute_capability`` (86 for 8.6), which
    only TensorRT for RTX builds plans for; then no GPU need be here.

    Raises as ``TensorRTEngine`` does.
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
                f"{api.name} builds plans for the GPU of this machine alone: leave the compute "
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
    """The network, typed as its graph is, and the parser, which it needs until it is built."""
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
    """Where is kept what the builder measured on this GPU with this driver."""
    parts = (key.runtime, key.gpu, key.driver, str(key.compute_capability))
    name = "-".join("".join(c if c.isalnum() or c == "." else "_" for c in part) for part in parts)
    return key.file(bundle).with_name(f"{name}.timings")


def _monitor(trt: Any, on_progress: Progress) -> Any:
    """The steps of the phase that has most of them, since phases lie within each other."""

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
