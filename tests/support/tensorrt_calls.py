"""What rdx_fast calls of TensorRT, and with what: ``python tensorrt_calls.py WHICH BUNDLE BINDINGS
LIBRARY...`` opens engines over stub libraries and prints it as JSON. A process of its own, since it
loads libraries under TensorRT's names.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.signature import SigningKey
from rdx_fast.devices import cuda
from rdx_fast.engines import GpuOptions
from rdx_fast.engines.tensorrt import build, engine
from rdx_fast.engines.tensorrt.engine import TensorRTEngine, io_shapes
from rdx_fast.engines.tensorrt.plan import save_plan
from rdx_fast.errors import BundleError, EngineError
from rdx_fast.kernels.gpu.cosine_map import common_layout
from support.signing import keys
from support.stub_tensorrt import StubTensorRT, Thing, shape, text

OPTIONS = GpuOptions(max_batch=20)
WORKSPACE = 12345  # bytes that a context wants of the GPU
PLAN = b"a plan"


# What gives nothing or False where TensorRT fails, rather than a number that may be 0.
FAILING = (
    "Builder.__init__",
    "Builder.create_network",
    "Builder.create_builder_config",
    "Builder.create_optimization_profile",
    "Builder.build_serialized_network",
    "OnnxParser.__init__",
    "OnnxParser.parse_from_file",
    "IBuilderConfig.create_timing_cache",
    "IBuilderConfig.set_timing_cache",
    "ITimingCache.serialize",
    "Runtime.__init__",
    "Runtime.deserialize_cuda_engine",
    "ICudaEngine.create_execution_context",
    "ICudaEngine.create_runtime_config",
    "IRuntimeConfig.create_runtime_cache",
    "IExecutionContext.set_optimization_profile_async",
    "IExecutionContext.set_input_shape",
    "IExecutionContext.set_tensor_address",
    "IExecutionContext.execute_async_v3",
)


class FakeGpu:
    """A ``Gpu`` of compute capability 8.6."""

    name, architecture, driver, cuda, ordinal = "a GPU", 86, "a driver", 13000, 0

    def __init__(self, ordinal: int = 0) -> None:
        pass

    @contextmanager
    def current(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        pass

    def __enter__(self) -> FakeGpu:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class FakeStream:
    """A ``Stream`` that hands out addresses and notes what is queued."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.filled: dict[int, tuple[int, int]] = {}

    def __int__(self) -> int:
        return 0x57

    def allocate(self, size: int) -> int:
        address = 0x10000 * (1 + len(self.sizes))
        self.sizes[address] = size
        return address

    def fill(self, target: int, byte: int, size: int) -> None:
        self.filled[target] = (byte, size)


class FakeKernels:
    """A ``KernelLibrary`` without kernels."""

    def __init__(self, folder: Path, architecture: int, *, cuda: int, public_key: Any) -> None:
        self.architecture = architecture

    def load(self) -> None:
        pass

    def close(self) -> None:
        pass


class Model:
    """A TensorRT that builds and runs plans of one network, to the bindings that ask."""

    def __init__(self, bundle: Bundle, name: str, libraries: list[Path]) -> None:
        self.shapes = io_shapes(bundle.manifest)
        self.names = list(self.shapes)
        self.halves = {*self.names}  # inputs and outputs in float16
        self.format_in_plan: int | None = None  # in place of what was asked for
        self.refused = 0  # plans that are not loaded
        self.old_timings_fit = True
        self.asked: dict[str, list[Any]] = {}
        self.formats: dict[str, int] = {}  # allowed, by the tensor's name
        self.timings: list[str] = []  # that the builder was offered
        self.built = 0
        self.contexts: list[dict[str, Any]] = []
        self.stub = StubTensorRT(name, libraries, self.answers())
        self.learn()

    def learn(self) -> None:
        trt = self.stub.module

        class Logger(trt.ILogger):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                pass

        builder = trt.Builder(Logger())
        plan = builder.build_serialized_network(
            builder.create_network(0), builder.create_builder_config()
        )
        self.stub.learn_memory(plan)
        assert bytes(plan) == PLAN
        self.stub.calls.clear()
        self.built = 0

    def note(self, name: str, count: int = 1) -> Any:
        """An answer that keeps so many numbers, and agrees."""

        def answer(this: Thing, *words: int) -> bool:
            self.asked.setdefault(name, []).append(words[:count])
            return True

        return answer

    def make(self, kind: str) -> Any:
        return lambda this, *_: Thing(self.stub, kind, of=this)

    def tensor(self, name: str) -> Thing:
        return Thing(self.stub, "ITensor", name=name)

    def build(self, this: Thing, *_: int) -> Thing:
        self.built += 1
        return self.stub.memory(PLAN)

    def load(self, this: Thing, blob: int, size: int, *_: int) -> Thing | None:
        assert ctypes.string_at(blob, size) == PLAN
        if self.refused:
            self.refused -= 1
            return None
        return Thing(self.stub, "ICudaEngine")

    def timing_cache(self, this: Thing, blob: int, size: int, *_: int) -> Thing:
        return Thing(self.stub, "ITimingCache", old=ctypes.string_at(blob, size))

    def set_timing_cache(self, this: Thing, cache: int, *_: int) -> bool:
        old = self.stub.things[cache].facts["old"]
        self.timings.append(old.decode())
        return self.old_timings_fit or not old

    def context(self, this: Thing, strategy: int, *_: int) -> Thing:
        self.contexts.append({"config": strategy, "calls": []})
        return Thing(self.stub, "IExecutionContext", notes=self.contexts[-1])

    def in_context(self, name: str, decode: Any, result: Any = True) -> Any:
        def answer(this: Thing, *words: int) -> Any:
            this.facts["notes"]["calls"].append([name, *decode(*words)])
            return result(*words) if callable(result) else result

        return answer

    def set_allowed_formats(self, this: Thing, formats: int, *_: int) -> None:
        self.formats[this.facts["name"]] = formats

    def format_of(self, this: Thing, name: int, profile: int, *_: int) -> int:
        assert profile < len(OPTIONS.profiles)
        if self.format_in_plan is not None:
            return self.format_in_plan
        return self.formats[text(name)].bit_length() - 1

    def set_shape(self, this: Thing, name: int, selector: int, dims: int, *_: int) -> bool:
        self.asked.setdefault("profiles", []).append([selector, text(name), *shape(dims)])
        return True

    def answers(self) -> dict[str, Any]:
        return {
            "Builder.create_network": self.make("INetworkDefinition"),
            "Builder.create_builder_config": self.make("IBuilderConfig"),
            "Builder.create_optimization_profile": self.make("IOptimizationProfile"),
            "Builder.build_serialized_network": self.build,
            "OnnxParser.parse_from_file": lambda *_: True,
            "OnnxParser.num_errors": lambda *_: 2,
            "OnnxParser.get_error": self.make("ParserError"),
            "ParserError.desc": lambda *_: "a complaint",
            "INetworkDefinition.num_inputs": lambda *_: 1,
            "INetworkDefinition.num_outputs": lambda *_: len(self.names) - 1,
            "INetworkDefinition.get_input": lambda _, i, *__: self.tensor(self.names[i]),
            "INetworkDefinition.get_output": lambda _, i, *__: self.tensor(self.names[1 + i]),
            "ITensor.name": lambda this, *_: this.facts["name"],
            "ITensor.shape": lambda this, *_: self.shapes[this.facts["name"]],
            "ITensor.dtype": lambda this, *_: this.facts["name"] in self.halves,
            "ITensor.allowed_formats": self.set_allowed_formats,
            "IOptimizationProfile.set_shape": self.set_shape,
            "IBuilderConfig.clear_flag": self.note("clear_flag"),
            "IBuilderConfig.set_flag": self.note("set_flag"),
            "IBuilderConfig.add_optimization_profile": lambda *_: 0,
            "IBuilderConfig.set_memory_pool_limit": self.note("pool", 2),
            "IBuilderConfig.progress_monitor": self.note("progress_monitor"),
            "IBuilderConfig.builder_optimization_level": self.note("level"),
            "IBuilderConfig.tiling_optimization_level": self.note("tiling"),
            "IBuilderConfig.num_compute_capabilities": self.note("capabilities"),
            "IBuilderConfig.set_compute_capability": self.note("capability", 2),
            "IBuilderConfig.create_timing_cache": self.timing_cache,
            "IBuilderConfig.set_timing_cache": self.set_timing_cache,
            "ITimingCache.serialize": lambda *_: self.stub.memory(b"timings"),
            "Runtime.deserialize_cuda_engine": self.load,
            "ICudaEngine.num_io_tensors": lambda *_: len(self.names),
            "ICudaEngine.get_tensor_name": lambda _, i, *__: self.names[i],
            "ICudaEngine.get_tensor_shape": lambda _, name, *__: self.shapes[text(name)],
            "ICudaEngine.get_tensor_dtype": lambda _, name, *__: text(name) in self.halves,
            "ICudaEngine.get_tensor_format": self.format_of,
            "ICudaEngine.create_execution_context": self.context,
            "ICudaEngine.create_runtime_config": self.make("IRuntimeConfig"),
            "IRuntimeConfig.set_execution_context_allocation_strategy": self.note("strategy"),
            "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy": self.note("eager"),
            "IRuntimeConfig.create_runtime_cache": self.make("IRuntimeCache"),
            "IRuntimeConfig.set_runtime_cache": lambda *_: True,
            "IRuntimeConfig.get_runtime_cache": self.make("IRuntimeCache"),
            "IRuntimeCache.serialize": lambda *_: self.stub.memory(b"compiled"),
            "IRuntimeCache.deserialize": lambda *_: True,
            "IExecutionContext.set_optimization_profile_async": self.in_context(
                "profile",
                lambda index, stream, *_: (index, stream),
                lambda index, *_: index < len(OPTIONS.profiles),
            ),
            "IExecutionContext.set_input_shape": self.in_context(
                "shape", lambda name, dims, *_: (text(name), *shape(dims))
            ),
            "IExecutionContext.set_tensor_address": self.in_context(
                "address", lambda name, address, *_: (text(name), address)
            ),
            "IExecutionContext.update_device_memory_size_for_shapes": self.in_context(
                "size", lambda *_: (), WORKSPACE
            ),
            "IExecutionContext.set_device_memory": self.in_context(
                "memory", lambda address, size, *_: (address, size)
            ),
            "IExecutionContext.execute_async_v3": self.in_context(
                "execute", lambda stream, *_: (stream,)
            ),
        }


def bound(opened: TensorRTEngine, batch: int) -> dict[str, Any]:
    """Bind a batch, run it, and tell what was allocated and filled."""
    device: Any = opened.open_device()
    network = opened.bind(device, batch)
    teacher, student = network.run()
    arrays: dict[str, Any] = {"image": network.image}
    for part, maps in (("teacher", teacher), ("student", student)):
        arrays |= {f"{part}_{s}": array for s, array in enumerate(maps)}
    return {
        "arrays": {n: [a.pointer, a.shape, a.stride(), str(a.dtype)] for n, a in arrays.items()},
        "layout": common_layout([*teacher, *student]),
        "sizes": device.stream.sizes,
        "filled": device.stream.filled,
    }


def refused(act: Callable[[], object]) -> str:
    """The error that an act ends with."""
    try:
        act()
    except (EngineError, BundleError) as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"not an error of ours: {error!r}"
    return "no error"


def demanded(model: Model, bundle: Bundle, options: GpuOptions) -> Iterator[tuple[str, Any]]:
    """What comes of a bundle whose plans must be signed."""
    plans = bundle.path / "plans"
    shutil.rmtree(plans)
    signing = SigningKey.read(keys(bundle.path.parent, "quality")[0])
    wanting = replace(bundle, public_key=signing.public)

    def opened(of: Bundle) -> str:
        loads = model.stub.calls.count("IRuntimeCache.deserialize")
        said = refused(lambda: TensorRTEngine(of, options).close())
        loads = model.stub.calls.count("IRuntimeCache.deserialize") - loads
        jits = sum(file.suffix == ".jit" for file in plans.glob("*"))
        return f"{said}; compiled code: {loads} loaded, {jits} stored"

    yield "without a plan", opened(wanting)
    plan = build.prepare_plan(bundle, options).file
    yield "unsigned", opened(wanting)
    signing.sign_made(plan)
    yield "signed", opened(wanting)
    model.refused = 1
    yield "signed and rejected", opened(wanting)
    yield "by anybody", opened(bundle)
    yield "with unsigned code", opened(wanting)
    for jit in plans.glob("*.jit"):
        signing.sign_made(jit)
        before = jit.read_bytes()
        yield "with signed code", opened(wanting)
        yield "signed code by anybody", opened(bundle)
        assert jit.read_bytes() == before
        jit.write_bytes(b"swapped")
        yield "with swapped code", opened(wanting)
        jit.unlink()
    save_plan(plan, build.prepare_plan(bundle, options).key, b"swapped")
    yield "swapped", opened(wanting)


def tell(model: Model, bundle: Bundle, options: GpuOptions) -> Iterator[tuple[str, Any]]:
    """Open engines in every way, and tell what comes of each."""
    opened = TensorRTEngine(bundle, options)
    yield "formats", dict(model.formats)
    yield "asked", deepcopy(model.asked)
    yield "bound", {batch: bound(opened, batch) for batch in (1, 5, 20)}
    yield "contexts", list(model.contexts)
    yield "too_large", refused(lambda: bound(opened, 21))
    opened.close()
    TensorRTEngine(bundle, options).close()  # finds the plan
    built = [model.built]
    # A plan that is not loaded is built again, with what was measured if that still fits.
    for fits in (True, False):
        model.refused, model.old_timings_fit = 1, fits
        TensorRTEngine(bundle, options).close()
        built.append(model.built)
    yield "built", built
    yield "timings", list(model.timings)

    model.format_in_plan = int(model.stub.module.TensorFormat.CHW32)
    yield "format", refused(lambda: TensorRTEngine(bundle, options))
    model.format_in_plan = None
    plans = bundle.path / "plans"
    shutil.rmtree(plans)
    build.prepare_plan(bundle, options)
    yield "prepared", sorted(file.suffix for file in plans.iterdir())

    # With other options than those of the stored plan, and with none.
    before, openings = model.built, []
    for given in (None, GpuOptions(), None):
        opened = TensorRTEngine(bundle, given)
        took = opened.options
        found = [model.built - before, opened.max_batch, took.optimization_level]
        openings.append([*found, opened.description])
        opened.close()
    yield "openings", openings
    yield "demanded", dict(demanded(model, bundle, options))

    for name, halves in (("floats", set()), ("float maps", {"image"})):
        shutil.rmtree(plans)
        model.halves = halves
        opened = TensorRTEngine(bundle, options)
        yield name, bound(opened, 5) | {"formats": dict(model.formats)}
        opened.close()

    failing = {}
    for name in sorted({*FAILING} & {*model.stub.calls}):
        shutil.rmtree(plans, ignore_errors=True)
        model.stub.failing = name
        failing[name] = refused(lambda: bound(TensorRTEngine(bundle, options), 5))
    yield "failing", failing
    yield "calls", sorted({*model.stub.calls})
    yield "failures", model.stub.failures


def main(which: str, path: str, bindings: str, *libraries: str) -> None:
    rtx = which == "tensorrt_rtx"
    package = "tensorrt_rtx" if rtx else "tensorrt"
    if not rtx:
        sys.path.insert(0, bindings)
    sys.modules[f"{package}_libs"] = ModuleType("none")  # it would load the real ones
    bundle = open_bundle(path)
    model = Model(bundle, f"{package}_bindings", [Path(library) for library in libraries])
    trt = model.stub.module
    sys.modules[package] = trt  # as the package around the bindings does it
    options = OPTIONS if rtx else replace(OPTIONS, optimization_level=5)
    told = {
        "version": trt.__version__,
        "rtx": rtx,
        "shapes": model.shapes,
        **{name: int(trt.TensorFormat.__members__[name]) for name in ("LINEAR", "HWC8")},
        **{name: int(member) for name, member in trt.BuilderFlag.__members__.items()},
        "FULL": int(trt.TilingOptimizationLevel.FULL),
        "WORKSPACE": int(trt.MemoryPoolType.WORKSPACE),
        "names": sorted({n for k in model.stub.classes for n in vars(k) if not n.startswith("_")}),
    }
    with (
        patch.multiple(
            engine, Gpu=FakeGpu, KernelLibrary=FakeKernels, find_kernels=lambda *_: Path()
        ),
        patch.object(build, "Gpu", FakeGpu),
        patch.object(cuda, "Stream", FakeStream),
    ):
        told |= dict(tell(model, bundle, options))
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
