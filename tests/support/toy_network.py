"""A network that is cheap to run, in torch, and the pipelines around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from rdx_fast.devices.device import BoundNetwork
from rdx_fast.devices.torch_device import TorchDevice
from rdx_fast.engines.engine import Chunk
from rdx_fast.pipelines.cpu import CpuPipeline
from rdx_fast.pipelines.gpu import GpuPipeline
from rdx_fast.postprocess import AnomalyMapper
from support.small_network import SCALES, SIZE, SPEC

MOST = 2
DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
# On the device beforehand: memory that is not pinned must not be copied inside a capture.
MIXING = {
    device: [
        torch.linspace(-1, 1, 3 * s.channels).reshape(s.channels, 3).sin().to(device)
        for s in SCALES
    ]
    for device in {DEVICE, torch.device("cpu")}
}


def features(image: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Maps that depend on every pixel, and are alike but not the same."""
    maps: list[list[torch.Tensor]] = [[], []]
    for i, scale in enumerate(SCALES):
        pooled = functional.adaptive_avg_pool2d(image.float(), (scale.height, scale.width))
        teacher = torch.einsum("cd,bdhw->bchw", MIXING[image.device][i], pooled)
        student = teacher.roll(1, 3) + 0.1 * (i + 1) * teacher.roll(1, 1)
        maps[0].append(teacher.contiguous())
        maps[1].append(student.contiguous())
    return maps[0], maps[1]


def on_device(
    wanted: AnomalyMapper,
    network: Callable[[torch.Tensor], Any] = features,
    most: int = MOST,
    closed: Callable[[], bool] = lambda: False,
) -> GpuPipeline:
    def bind(device: Any, batch: int) -> BoundNetwork:
        image = torch.full((batch, 3, *SIZE), torch.nan, device=DEVICE)
        return BoundNetwork(image, lambda: network(image))

    return GpuPipeline("toy", lambda: TorchDevice(DEVICE), bind, wanted, SPEC, most, closed)


def on_host(wanted: AnomalyMapper) -> CpuPipeline:
    def run(inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        for i in range(len(inputs)):
            teacher, student = features(torch.from_numpy(inputs[i : i + 1]))
            yield Chunk(i, [m.numpy() for m in teacher], [m.numpy() for m in student])

    return CpuPipeline("toy", run, SPEC, wanted)
