"""The torch engine, for GPUs without TensorRT; it also runs on a CPU."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.devices.device import EXCLUSIVE, BoundNetwork, Device
from rdx_fast.devices.torch_device import TorchDevice, named_errors
from rdx_fast.engines.engine import Chunk, GpuOptions
from rdx_fast.engines.torch_fusion import fuse, merge_biases, reserve_zeros
from rdx_fast.engines.torch_graph import check_shapes, read_network
from rdx_fast.errors import DeviceLostError, DeviceMemoryError, EngineError, NoDriverError
from rdx_fast.precision import choose


class TorchEngine:
    """Runs one of a bundle's networks in torch, channels-last.

    Args:
        bundle: an opened bundle
        device: "cuda", "cuda:N" or "cpu". On a GPU the whole pipeline runs there, as one CUDA graph
            for each batch size; on a CPU the network runs between the CPU kernels
        options: see ``GpuOptions``; None for the defaults. With ``compile`` the network is compiled
            by ``torch.compile``, which takes about a minute for each batch size. It fuses operators
            itself and could not look into cuDNN's fused ones, so the graph stays as exported then
        precision: executed precision, None for the fastest that the bundle holds (see ``choose``)

    Raises:
        EngineError: torch runs none of the bundle's networks in the precision; it does not run int8
        NoDriverError: torch finds no GPU
        BundleError: the network does not match the manifest
        ValueError: unknown precision
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "cuda",
        options: GpuOptions | None = None,
        precision: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.options = options or GpuOptions()
        self.execution, self._reason = choose(self.manifest, "torch", (), precision)
        self.device = torch.device(device)
        if self.device.type == "cuda":
            if not torch.cuda.is_available():
                raise NoDriverError(
                    f"torch {torch.__version__} finds no CUDA GPU",
                    "install a CUDA build of torch and NVIDIA's driver, or use backend='openvino'",
                )
            self.device = torch.device("cuda", self.device.index or 0)
            _set_up_cudnn(exact=self.execution.executed == "fp32")
        file = bundle.network(self.execution.stored)
        check_shapes(file, self.manifest)
        network, self._image_type = read_network(file)
        if self.execution.executed == "bf16":  # float32 in the graph
            self._image_type = torch.bfloat16
            network = network.to(torch.bfloat16)
        with named_errors():
            placed: Any = network.eval().to(self.device)
            self._network: Any = placed.to(memory_format=torch.channels_last)
        self._fused = 0
        # float32 as such is not for tensor cores, for which cuDNN's fused kernels are.
        if self.options.fuse and not self.options.compile and self.execution.executed == "fp16":
            self._fuse()
        if self.options.compile:
            self._network = torch.compile(
                self._network, mode="max-autotune-no-cudagraphs", dynamic=False
            )

    @property
    def description(self) -> str:
        name = "CPU" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)
        how = ", compiled" if self.options.compile else ", fused" if self._fused else ""
        return f"torch {torch.__version__} {name}, {self.execution.label} ({self._reason}){how}"

    @property
    def on_device(self) -> bool:
        return self.device.type != "cpu"

    @property
    def frame_threads(self) -> int:
        return 1

    @property
    def kernels(self) -> str:
        return "triton"

    @property
    def max_batch(self) -> int:
        return self.options.max_batch

    def open_device(self) -> TorchDevice:
        return TorchDevice(self.device)

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        """Features in host memory. Images run one by one, so a score never depends on what else was
        in the batch."""
        for start in range(len(inputs)):
            image = torch.from_numpy(inputs[start : start + 1]).to(self.device, self._image_type)
            features = self._features(image.contiguous(memory_format=torch.channels_last))
            teacher, student = ([m.float().cpu().numpy() for m in maps] for maps in features)
            yield Chunk(start, teacher, student)

    @property
    def closed(self) -> bool:
        return self._network is None

    def close(self) -> None:
        self._network = None

    def _fuse(self) -> None:
        """Fuse operators, and try them: a cuDNN without a kernel for one raises. Then the graph
        stays as exported, which the description says too."""
        spec = self.manifest.input
        image = torch.zeros(
            (1, 3, spec.height, spec.width), dtype=self._image_type, device=self.device
        )
        exported = self._network
        self._network = fx.GraphModule(exported, copy.deepcopy(exported.graph))
        if self.on_device:
            merge_biases(self._network, image)
        self._fused = fuse(self._network, image)
        if not self._fused:
            self._network = exported
            return
        if not self.on_device:
            return
        try:
            with EXCLUSIVE:
                reserve_zeros(self._network, 1)
                teacher, _ = self._features(image.contiguous(memory_format=torch.channels_last))
                teacher[0].cpu()
        except (DeviceLostError, DeviceMemoryError):
            raise
        except EngineError as error:
            warnings.warn(f"the network runs without fused operators: {error}", stacklevel=4)
            self._network, self._fused = exported, 0

    def _features(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        if self.closed:
            raise EngineError("the engine is closed: open a new one")
        with named_errors(), torch.inference_mode():
            return self._network(image)

    def bind(self, device: Device, batch: int) -> BoundNetwork:
        spec = self.manifest.input
        # The kernels do not write bfloat16: pixels are rounded when the network starts.
        dtype = torch.float32 if self._image_type == torch.bfloat16 else self._image_type
        image = torch.empty(
            (batch, 3, spec.height, spec.width),
            dtype=dtype,
            device=self.device,
            memory_format=torch.channels_last,
        )

        zeros = reserve_zeros(self._network, batch) if self._fused else None
        return BoundNetwork(image, partial(self._run_bound, image, zeros))

    def _run_bound(self, image: Tensor, zeros: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """``zeros`` is only held: graphs that were recorded point to it."""
        teacher, student = self._features(image.to(self._image_type))
        return _channels_last(teacher), _channels_last(student)


def _set_up_cudnn(exact: bool) -> None:
    """Let cuDNN measure all of its algorithms; ``exact``: and execute float32 as such, not as TF32.

    These settings belong to the process. They are set once, when an engine is opened: setting and
    restoring them around each call is a race between threads.
    """
    cudnn = torch.backends.cudnn
    cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit = True, True, 0
    if exact:
        cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def _channels_last(maps: list[Tensor]) -> list[Tensor]:
    """Maps in channels-last layout; only those that torch laid out differently are copied."""
    return [m.contiguous(memory_format=torch.channels_last) for m in maps]
