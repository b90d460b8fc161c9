"""A network compiled by OpenVINO, which runs images one by one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import properties as props
from openvino.properties import hint

from rdx_fast.bundle.manifest import Manifest
from rdx_fast.engines.engine import Chunk
from rdx_fast.engines.openvino.compilation import (
    CORE,
    INFERENCE_TYPE,
    check_executed,
    compile_network,
    executed_convolutions,
    port_shapes,
    transposed_outputs,
)
from rdx_fast.errors import EngineError

MODES = {
    "latency": hint.PerformanceMode.LATENCY,
    "throughput": hint.PerformanceMode.THROUGHPUT,
}


class OpenVINONetwork:
    """The network of an ONNX file on the CPU, compiled to execute one precision.

    Args:
        file: the ONNX file
        executed: "fp32", "fp16", "bf16" or "int8"
        threads: CPU threads, None for OpenVINO's choice
        mode: "latency" or "throughput", see ``OpenVINOEngine``
        manifest: inputs and outputs of the network must match it; None checks nothing

    Attributes:
        threads: CPU threads that OpenVINO uses
        streams: images that OpenVINO can run in parallel
        convolutions: number of convolutions by input type, f32, f16, bf16 or i8; transposed ones
            are not counted

    Raises:
        BundleError: the network does not match the manifest
        EngineError: OpenVINO rejects the network, or would execute most convolutions (for fp32,
            any of them) in another precision
    """

    def __init__(
        self,
        file: Path,
        executed: str,
        threads: int | None = None,
        mode: str = "latency",
        manifest: Manifest | None = None,
    ) -> None:
        wanted = INFERENCE_TYPE[executed]
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
                manifest.check_network(file, port_shapes(network))
            self._compiled = compile_network(network.clone(), config)
            if transposed := transposed_outputs(self._compiled):
                self._compiled = None  # so that both are never in memory at once
                self._compiled = compile_network(network, config, transposed)
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
        self.convolutions = executed_convolutions(self._compiled)
        check_executed(self.convolutions, executed)
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
            # Abandoned or failed part-way: no request may still write into buffers used again.
            for _, request in running:
                with suppress(RuntimeError):
                    request.wait()

    def close(self) -> None:
        self._compiled = None
        self._local = threading.local()

    def _requests(self) -> list[ov.InferRequest]:
        """The calling thread's own requests, as many as run in parallel."""
        if self._compiled is None:
            raise EngineError("the engine is closed: open a new one")
        if not hasattr(self._local, "requests"):
            count = self.streams if self.mode == "throughput" else 1
            self._local.requests = [self._compiled.create_infer_request() for _ in range(count)]
        return self._local.requests

    def _maps(self, request: ov.InferRequest, outputs: list[int]) -> list[Any]:
        """Views ``[1, C, h, w]`` of a request's buffers."""
        return [request.get_output_tensor(i).data.transpose(0, 3, 1, 2) for i in outputs]

    def _output(self, name: str) -> int:
        assert self._compiled is not None
        for index, output in enumerate(self._compiled.outputs):
            if name in output.names:
                return index
        raise EngineError(f"the network has no output {name!r}: export the bundle again")


def _first_line(error: Exception) -> str:
    """The message without the locations in OpenVINO's source."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Exception from")]
    return said[0] if said else str(error)
