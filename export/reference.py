"""Reference execution of networks in their own precision on any CPU, for the checks at export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from rdx_fast.engines.engine import Chunk
from rdx_fast.engines.torch_graph import read_network
from rdx_fast.errors import MissingDependencyError


class OnnxNetwork:
    """Runs a bundle's ONNX file in ONNX Runtime; slow, but exact for quantised graphs on every CPU.

    Args:
        path: the ONNX file

    Raises:
        MissingDependencyError: the package onnxruntime is not installed
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            if error.name != "onnxruntime":
                raise
            raise MissingDependencyError("onnxruntime", "the check of int8", "train") from error
        options = onnxruntime.SessionOptions()
        # With fused operators, int8 sums saturate on CPUs without VNNI.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(path, options, providers=providers)

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        """``inputs: [B, 3, H, W] float32``, all in one chunk."""
        names = [output.name for output in self._session.get_outputs()]
        maps = dict(zip(names, self._session.run(None, {"image": inputs}), strict=True))
        scales = range(len(maps) // 2)
        teacher, student = ([maps[f"{p}_{s}"] for s in scales] for p in ("teacher", "student"))
        yield Chunk(0, teacher, student)


class RoundedNetwork:
    """Emulates half precision on a CPU without it.

    Sums are in float32, as in tensor cores of GPUs and bfloat16 units of CPUs; the result of every
    step and every weight is rounded.

    Args:
        path: the ONNX file
        executed: "fp16" rounds to the types of the graph, some of whose steps may be float32;
            "bf16" rounds everything to bfloat16

    Raises:
        EngineError: the graph has an operator that is not supported
    """

    def __init__(self, path: Path, executed: str) -> None:
        network, image_type = read_network(path)
        types = _result_types(network, image_type)
        if executed == "bf16":
            types = dict.fromkeys(types, torch.bfloat16)
        self._interpreter = _Rounding(network, types)

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        """``inputs: [B, 3, H, W] float32``, all in one chunk."""
        with torch.inference_mode():
            features: Any = self._interpreter.run(torch.from_numpy(inputs))
        teacher, student = ([m.numpy() for m in maps] for maps in features)
        yield Chunk(0, teacher, student)


class _Rounding(fx.Interpreter):
    """Runs a graph in float32 and rounds the result of each step to its type in ``types``."""

    def __init__(self, network: fx.GraphModule, types: dict[str, torch.dtype]) -> None:
        self._types = types
        for node in network.graph.nodes:
            if node.op == "get_attr":
                weight = network.get_parameter(str(node.target))
                weight.data = weight.data.to(types[node.name]).float()
            elif node.target is Tensor.to:
                node.target, node.kwargs = _unchanged, {}
        network.recompile()
        placed: Any = network
        super().__init__(placed.to(memory_format=torch.channels_last))

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            return result.to(self._types[n.name]).float()
        return result


def _unchanged(x: Tensor) -> Tensor:
    return x


def _result_types(network: fx.GraphModule, image: torch.dtype) -> dict[str, torch.dtype]:
    """The type of each step's result: that of a cast, or that of the step's first input."""
    types: dict[str, torch.dtype] = {}
    for node in network.graph.nodes:
        if node.op == "placeholder":
            types[node.name] = image
        elif node.op == "get_attr":
            types[node.name] = network.get_parameter(str(node.target)).dtype
        elif node.target is Tensor.to:
            types[node.name] = node.kwargs["dtype"]
        elif node.all_input_nodes:
            types[node.name] = types[node.all_input_nodes[0].name]
    return types
