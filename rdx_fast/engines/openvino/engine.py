"""The engine for CPUs, which chooses one of the bundle's networks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.cpu import cpu_features
from rdx_fast.engines.engine import Chunk
from rdx_fast.engines.openvino.compilation import capabilities
from rdx_fast.engines.openvino.network import MODES, OpenVINONetwork
from rdx_fast.errors import EngineError
from rdx_fast.precision import choices


class OpenVINOEngine:
    """Runs one of a bundle's networks on the CPU.

    Images run one by one in either mode, so a score never depends on what else was in the batch.
    ``run`` may be called from several threads at once.

    Args:
        bundle: an opened bundle
        threads: CPU threads, at least 1; None for OpenVINO's choice
        mode: "latency" runs one image on all threads; "throughput" runs several images of a batch
            in parallel
        precision: executed precision, None for the fastest that the bundle holds and this CPU
            executes (see ``choices``)

    Raises:
        EngineError: the bundle holds nothing that this CPU runs in the precision, or OpenVINO
            rejects the network or would execute another precision
        BundleError: the network does not match the manifest
        ValueError: unknown mode or precision, or ``threads`` below 1
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
        self.bundle = bundle
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
            raise EngineError("; ".join(refused) + ": choose another precision or backend")
        if refused:
            self._reason += f", {len(refused)} rejected by OpenVINO"
            warnings.warn(
                f"{execution.label} is executed instead of {'; '.join(refused)}", stacklevel=4
            )
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
