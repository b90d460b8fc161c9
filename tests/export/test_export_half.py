"""Networks stored in half precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.engines.openvino.network import OpenVINONetwork
from rdx_fast.engines.torch_engine import TorchEngine
from rdx_fast.export import export_bundle
from rdx_fast.export.float16 import to_half
from rdx_fast.export.reference import RoundedNetwork
from rdx_fast.images import list_images, read_image
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import to_input
from rdx_fast.training import Checkpoint
from support.exported import operators
from support.trained import WIDE


@pytest.mark.parametrize("executed", ["fp16", "bf16"])
def test_rounding_stands_in_for_half_precision(
    executed: str, whole_bundle: Bundle, parts: Path
) -> None:
    """Torch's own half precision is the same arithmetic, step by step, and much slower."""
    stored = "fp16" if executed == "fp16" else "fp32"
    mapper = AnomalyMapper(whole_bundle.manifest.map, whole_bundle.manifest.scales)
    file = whole_bundle.network(stored)
    rounded = RoundedNetwork(file, executed)
    real = TorchEngine(whole_bundle, "cpu", precision=executed)
    exact = OpenVINONetwork(file, "fp32")
    for path in list_images(parts / "test")[:3]:
        image = to_input([read_image(path)], whole_bundle.manifest.input)
        a, b, c = (
            mapper.maps(chunk.teacher, chunk.student)
            for chunk in (next(network.run(image)) for network in (rounded, real, exact))
        )
        # Not the same errors, since sums are in another order, but of the same size.
        assert 0.2 < np.abs(a - c).mean() / np.abs(b - c).mean() < 5


@pytest.mark.slow
def test_what_half_precision_cannot_hold_stays_in_float32(
    bundle: Bundle, checkpoint: Checkpoint, parts: Path, tmp_path: Path
) -> None:
    # The student's last scale is a linear head: a factor there leaves every cosine as it is.
    network = dict(checkpoint.network)
    network["student.heads.0.weight"] = network["student.heads.0.weight"] * 1e6
    loud = replace(checkpoint, network=network)
    good = list_images(parts / "calibration")
    half = export_bundle(loud, good, tmp_path / "fp16.rdx", precision="fp16", tolerance=WIDE)
    kept = [
        constant.name
        for constant in onnx.load(half.network("fp16")).graph.initializer
        if constant.data_type == onnx.TensorProto.FLOAT and len(constant.dims) == 4
    ]
    assert kept == ["network.student.heads.0.weight"]
    assert types(half) == (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT)
    images = [read_image(p) for p in list_images(parts / "test")]
    # In half precision really, as a GPU runs it.
    with Detector(bundle.path) as a, Detector(TorchEngine(half, "cpu")) as b:
        np.testing.assert_allclose(b.score(images).scores, a.score(images).scores, rtol=1e-2)


def types(bundle: Bundle) -> tuple[int, int]:
    """Of input and outputs, as ONNX numbers them."""
    graph = onnx.load(bundle.network("fp16")).graph
    (image,) = {value.type.tensor_type.elem_type for value in graph.input}
    (maps,) = {value.type.tensor_type.elem_type for value in graph.output}
    return image, maps


def test_half_precision_runs_from_end_to_end(exported_as: Callable[..., Bundle]) -> None:
    bundle = exported_as("fp16")
    assert types(bundle) == (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT16)
    assert "Cast" not in operators(bundle, "fp16")


def loud_network() -> torch.nn.Module:
    class Loud(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quiet = torch.nn.Conv2d(3, 4, 1)
            self.loud = torch.nn.Conv2d(4, 4, 1)
            self.calm = torch.nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            a = torch.relu(self.quiet(x))
            b = torch.relu(self.loud(a)) + a
            return [a], [self.calm(b)]

    network = Loud().eval()
    with torch.no_grad():
        network.loud.weight.copy_(torch.full((4, 4, 1, 1), 3e4))
        network.calm.weight.mul_(1e-5)
    return network


def test_only_what_must_runs_in_float32() -> None:
    torch.manual_seed(0)
    network = loud_network()
    image = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = network(image)
        half = to_half(torch.fx.symbolic_trace(network), [image])
        found = half(image.half())
    assert found[0][0].dtype == found[1][0].dtype == torch.float16
    torch.testing.assert_close(found[1][0].float(), expected[1][0], rtol=1e-2, atol=1e-3)
    weights = {name: p.dtype for name, p in half.named_parameters() if name.endswith("weight")}
    assert weights == {
        "quiet.weight": torch.float16,
        "loud.weight": torch.float32,
        "calm.weight": torch.float32,
    }
    naive = loud_network().half()
    with torch.no_grad():
        assert not torch.isfinite(naive(image.half())[1][0]).all()
