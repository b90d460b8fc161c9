"""OpenVINO on CPUs."""

from __future__ import annotations

import threading
import warnings
from collections import Counter, deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset8 as opset
from openvino import properties as props
from openvino.preprocess import PrePostProcessor
from openvino.properties import hint

from rdx_fast.bundle import Bundle
from rdx_fast.cpu import cpu_features, has_fast_bf16
from rdx_fast.engines.engine import Chunk
from rdx_fast.errors import EngineError
from rdx_fast.manifest import Manifest
from rdx_fast.precision import FAST_BF16, choices

# One for the process, never let go: each core's CPU device gives its thread a stack for signals and
# on its end puts back the one before. Ended out of turn, or by another thread, it leaves the thread
# a stack that is gone, and the next signal that Python handles there ends the process.
CORE = ov.Core()
MODES = {
    "latency": hint.PerformanceMode.LATENCY,
    "throughput": hint.PerformanceMode.THROUGHPUT,
}
# What is asked of OpenVINO for the layers that the network itself leaves open. Always asked, since
# its own choice is bfloat16 wherever the CPU has it.
_INFERENCE_TYPE = {
    "fp32": ov.Type.f32,
    "fp16": ov.Type.f16,
    "bf16": ov.Type.bf16,
    "int8": ov.Type.f32,
}

# How the names of the primitives that then execute its convolutions end.
_EXECUTED = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "i8"}


def capabilities() -> frozenset[str]:
    """What OpenVINO says that this CPU executes natively, such as FP32, BF16, INT8; and
    ``FAST_BF16``."""
    found = frozenset(CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return found | {FAST_BF16} if "BF16" in found and has_fast_bf16() else found


class OpenVINONetwork:
    """The network of an ONNX file on the CPU, compiled to execute one precision.

    ``executed``: "fp32", "fp16", "bf16" or "int8"; ``threads``, ``mode``: see ``OpenVINOEngine``;
    ``manifest``: what the network must have the inputs and outputs of. ``convolutions``: how many
    take f32, f16, bf16 or i8, transposed ones left out.

    Raises ``BundleError`` if the network is not the manifest's, ``EngineError`` if OpenVINO refuses
    it, or would execute most convolutions in another precision, or any of them for fp32.
    """

    def __init__(
        self,
        file: Path,
        executed: str,
        threads: int | None = None,
        mode: str = "latency",
        manifest: Manifest | None = None,
    ) -> None:
        wanted = _INFERENCE_TYPE[executed]
        config: dict[Any, Any] = {
            hint.performance_mode(): MODES[mode],
            hint.inference_precision(): wanted,
        }
        if threads is not None:
            config[props.inference_num_threads()] = threads
        self._compiled: ov.CompiledModel | None
        try:
            network = CORE.read_model(file)
            if manifest is not None:
                manifest.check_network(file, _shapes(network))
            self._compiled = _compile(network.clone(), config)
            if transposed := _transposed(self._compiled):
                self._compiled = None  # not both in memory
                self._compiled = _compile(network, config, transposed)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO cannot open {file} in {executed}: {_first_line(error)}"
            ) from error
        scales = range(len(self._compiled.outputs) // 2)
        self._teacher = [self._output(f"teacher_{s}") for s in scales]
        self._student = [self._output(f"student_{s}") for s in scales]
        self.mode = mode
        self.threads = int(self._compiled.get_property(props.inference_num_threads()))
        self.streams = int(self._compiled.get_property(props.num_streams()))
        self.convolutions = _convolutions(self._compiled)
        _check_executed(self.convolutions, executed)
        self._local = threading.local()

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        requests = self._requests()
        running: deque[tuple[int, ov.InferRequest]] = deque()
        following = 0
        try:
            while running or following < len(inputs):
                while following < len(inputs) and len(running) < len(requests):
                    request = requests[following % len(requests)]
                    request.start_async(inputs[following : following + 1], share_inputs=True)
                    running.append((following, request))
                    following += 1
                start, request = running[0]
                request.wait()
                teacher, student = (self._maps(request, o) for o in (self._teacher, self._student))
                yield Chunk(start, teacher, student)
                running.popleft()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed while running the network: {error}") from error
        finally:
            # Abandoned or failed half-way: nothing may go on writing into buffers used again.
            for _, request in running:
                with suppress(RuntimeError):
                    request.wait()

    def close(self) -> None:
        self._compiled = None
        self._local = threading.local()

    def _requests(self) -> list[ov.InferRequest]:
        """This thread's own requests, as many as run side by side."""
        if self._compiled is None:
            raise EngineError("the engine is closed: open a new one")
        if not hasattr(self._local, "requests"):
            count = self.streams if self.mode == "throughput" else 1
            self._local.requests = [self._compiled.create_infer_request() for _ in range(count)]
        return self._local.requests

    def _maps(self, request: ov.InferRequest, outputs: list[int]) -> list[Any]:
        """Views ``[1, C, h, w]`` of the request's buffers."""
        return [request.get_output_tensor(i).data.transpose(0, 3, 1, 2) for i in outputs]

    def _output(self, name: str) -> int:
        assert self._compiled is not None
        for index, output in enumerate(self._compiled.outputs):
            if name in output.names:
                return index
        raise EngineError(f"the network has no output {name!r}: export the bundle again")


class OpenVINOEngine:
    """One of a bundle's networks on the CPU.

    ``threads``: CPU threads, None for OpenVINO's choice. ``mode``: "latency" runs one image on all
    threads; "throughput" runs several images of a batch side by side. Images run one by one in
    either mode, so a score never depends on what else was in the batch. ``precision``: what is
    executed, None for the fastest that the bundle holds and this CPU executes (see ``choices``).

    Raises ``EngineError`` if the bundle holds nothing that this CPU runs in the precision, or if
    OpenVINO refuses the network or would execute another precision; ``BundleError`` if the network
    is not the manifest's.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int | None = None,
        mode: str = "latency",
        precision: str | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}, wanted one of {', '.join(MODES)}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}, wanted at least 1, or None")
        self.manifest = bundle.manifest
        found = choices(self.manifest, "openvino", capabilities(), precision)
        refused: list[str] = []
        for choice in found:
            execution = choice.execution
            file = bundle.network(execution.stored)
            try:
                self._network = OpenVINONetwork(
                    file, execution.executed, threads, mode, self.manifest
                )
            except EngineError as error:
                refused.append(f"{execution.label}: {error}")
                continue
            self.execution, self._reason = execution, choice.reason
            break
        else:
            raise EngineError("; ".join(refused) + ": choose another precision, or backend")
        if refused:
            self._reason += f", {len(refused)} refused by OpenVINO"
            warnings.warn(f"{execution.label} is run, not {'; '.join(refused)}", stacklevel=4)
        self.mode, self.threads = mode, self._network.threads
        self.streams = self._network.streams

    @property
    def description(self) -> str:
        return (
            f"{' '.join(('openvino', ov.__version__.split('-')[0], 'CPU', *cpu_features()))}, "
            f"{self.execution.label} ({self._reason}), {self.mode}, threads {self.threads}, "
            f"streams {self.streams}"
        )

    @property
    def on_device(self) -> bool:
        return False

    @property
    def frame_threads(self) -> int:
        return self.threads if self.mode == "latency" else 1

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        return self._network.run(inputs)

    def close(self) -> None:
        self._network.close()


def _first_line(error: Exception) -> str:
    """What it says, without where in OpenVINO it was raised."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Exception from")]
    return said[0] if said else str(error)


def _shapes(network: ov.Model) -> dict[str, tuple[int, ...]]:
    """Of inputs and outputs for one image, by name; -1 where the network leaves a size open."""
    return {
        port.any_name: tuple(_size(d) for d in port.get_partial_shape())[1:]
        for port in (*network.inputs, *network.outputs)
    }


def _size(dimension: ov.Dimension) -> int:
    """-1 where it is open."""
    return int(dimension.get_length()) if dimension.is_static else -1


def _compile(
    model: ov.Model, config: dict[Any, Any], pooled: Collection[str] = ()
) -> ov.CompiledModel:
    """The network of one image, taking and giving float32, with channels last in its maps, as it
    computes them. ``pooled``: outputs behind a 1 x 1 average pool, see ``_transposed``."""
    model.reshape([1, *(int(d.get_length()) for d in list(model.input().partial_shape)[1:])])
    for result in model.get_results():
        source = result.input_value(0)
        if names := source.names & set(pooled):
            one, none = [1, 1], [0, 0]
            pool = opset.avg_pool(source, one, none, none, one, exclude_pad=True).output(0)
            source.set_names(source.names - names)
            pool.set_names(names)
            result.input(0).replace_source_output(pool)
    model.validate_nodes_and_infer_types()
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.f32)
    for index in range(len(model.outputs)):
        steps.output(index).model().set_layout(ov.Layout("NCHW"))
        steps.output(index).tensor().set_layout(ov.Layout("NHWC")).set_element_type(ov.Type.f32)
    return CORE.compile_model(steps.build(), "CPU", config)


def _transposed(compiled: ov.CompiledModel) -> set[str]:
    """Outputs whose axes OpenVINO transposes and puts back for nothing.

    It does so to a convolution with a residual sum right before an output. A 1 x 1 average pool
    between the two, which changes no value, keeps it from that.
    """
    found = set()
    for result in compiled.get_runtime_model().get_results():
        node = result.input_value(0).get_node()
        while (kind := _layer_type(node)) in ("Reorder", "Convert"):
            node = node.input_value(0).get_node()
        if kind == "Transpose":
            found.add(result.get_friendly_name().partition("/")[0])
    return found


def _layer_type(node: ov.Node) -> str:
    """Of a network as it is executed."""
    return str(node.get_rt_info()["layerType"].astype(str))


def _convolutions(compiled: ov.CompiledModel) -> Counter[str]:
    """How many take f32, f16, bf16, or bytes (i8): what the name of their primitive ends with is
    the type of their input.

    Transposed convolutions are left out: OpenVINO leaves some of them in float32.
    """
    return Counter(
        node.get_rt_info()["primitiveType"].astype(str).rpartition("_")[2].lower()
        for node in compiled.get_runtime_model().get_ops()
        if _layer_type(node) == "Convolution"
    )


def _check_executed(convolutions: Counter[str], executed: str) -> None:
    """Raises ``EngineError`` unless most are executed in that precision; for fp32, all.

    int8 networks have float32 layers nearest the pixels.
    """
    wanted = _EXECUTED[executed]
    count = convolutions[wanted]
    total = convolutions.total()
    if count < total if executed == "fp32" else 2 * count <= total:
        found = ", ".join(f"{n} in {name}" for name, n in sorted(convolutions.items()))
        raise EngineError(
            f"asked for {executed}, OpenVINO {ov.__version__.split('-')[0]} would execute "
            f"convolutions otherwise on this CPU ({found or 'the network has none'})"
        )
