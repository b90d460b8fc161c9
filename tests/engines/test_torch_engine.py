from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from rdx_fast import Detector
from rdx_fast.bundle import Bundle
from rdx_fast.engines.torch_engine import TorchEngine, _set_up_cudnn
from rdx_fast.engines.torch_graph import read_network
from rdx_fast.errors import EngineError
from rdx_fast.images import list_images, read_image
from support import exported

# Of a map's norm: rounding to 24 and 11 bits, carried through 50 layers that blow up what differs.
TOLERANCE = {"fp32": 5e-5, "fp16": 6e-2}


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize(("method", "backbone"), exported.NETWORKS)
def test_networks_as_exported(method: str, backbone: str, precision: str, networks: Path) -> None:
    path = networks / f"{method}-{backbone}-{precision}" / f"network_{precision}.onnx"
    network, dtype = read_network(path)
    assert dtype == (torch.float16 if precision == "fp16" else torch.float32)
    image, wanted = exported.recorded(networks, method, backbone)
    placed = network.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        teacher, student = placed(torch.from_numpy(image).to(dtype))
    for found, expected in zip([*teacher, *student], wanted, strict=True):
        assert found.dtype == dtype
        difference = np.linalg.norm(found.float().numpy() - expected)
        assert difference <= TOLERANCE[precision] * np.linalg.norm(expected)
    assert not any("batch_norm" in str(node.target) for node in network.graph.nodes)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 2e-2)])
def test_scores_of_a_trained_bundle(
    exported_as: Callable[..., Bundle], parts: Path, precision: str, tolerance: float
) -> None:
    bundle = exported_as(precision)
    images = [read_image(p) for p in list_images(parts / "test")]
    # On a CPU the network of either precision runs in float32.
    with (
        Detector(bundle.path, "openvino", precision="fp32") as a,
        Detector(TorchEngine(bundle, "cpu")) as b,
    ):
        expected, found = a.score(images), b.score(images)
        streamed = [r.scores for r in b.stream(images, batch=3)]
    np.testing.assert_allclose(found.scores, expected.scores, rtol=tolerance)
    np.testing.assert_array_equal(found.is_anomalous, expected.is_anomalous)
    np.testing.assert_array_equal(np.concatenate(streamed), found.scores)
    assert f"torch {torch.__version__} CPU, {precision} (the only one that" in found.engine
    with pytest.raises(EngineError, match="closed"):
        b.score(images[0])


def test_bf16(exported_as: Callable[..., Bundle], parts: Path) -> None:
    bundle = exported_as("bf16")
    images = [read_image(p) for p in list_images(parts / "test")]
    with (
        Detector(bundle.path, "openvino", precision="fp32") as a,
        Detector(TorchEngine(bundle, "cpu", precision="bf16")) as b,
    ):
        expected, found = a.score(images), b.score(images)
    assert "bf16 of network fp32 (as requested)" in found.engine
    assert not np.array_equal(found.scores, expected.scores)
    # Eight bits, in every layer and in the features.
    allowed = 0.1 * expected.threshold
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=allowed)
    good = len(list_images(parts / "test" / "good"))
    assert found.scores[good:].min() > found.scores[:good].max()


def test_cudnn_stays_on(exported_as: Callable[..., Bundle]) -> None:
    """While the network runs too: ``cudnn.flags`` with one flag named switches cuDNN off."""
    engine = TorchEngine(exported_as("fp32"), "cpu")
    seen: list[bool] = []
    engine._network.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.enabled))
    list(engine.run(np.zeros((1, 3, 64, 64), np.float32)))
    assert seen == [True]


@pytest.fixture
def backends() -> Iterator[Any]:
    """torch's settings of cuDNN and of matrix products, which the test may change."""
    settings = [(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "allow_tf32")]
    settings += [(torch.backends.cudnn, "benchmark_limit")]
    settings += [(torch.backends.cuda.matmul, "allow_tf32")]
    before = [getattr(*setting) for setting in settings]
    yield torch.backends
    for (module, name), value in zip(settings, before, strict=True):
        setattr(module, name, value)


@pytest.mark.parametrize("exact", [True, False])
def test_settings_of_cudnn(exact: bool, backends: Any) -> None:
    cudnn, matmul = backends.cudnn, backends.cuda.matmul
    cudnn.enabled = cudnn.benchmark = False
    cudnn.allow_tf32 = matmul.allow_tf32 = True
    _set_up_cudnn(exact)
    assert cudnn.enabled
    assert cudnn.benchmark
    if torch.backends.cuda.is_built():
        assert cudnn.benchmark_limit == 0  # try every algorithm
    assert cudnn.allow_tf32 is matmul.allow_tf32 is not exact


def test_what_torch_does_not_run(
    exported_as: Callable[..., Bundle], bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=r"torch: it holds int8, int8 of .*\. No network"):
        TorchEngine(exported_as("int8"), "cpu")
    model = onnx.load(bundle.network("fp32"))
    model.graph.node[0].op_type = "Hardmax"
    onnx.save(model, tmp_path / "network.onnx")
    with pytest.raises(EngineError, match=r"the operator Hardmax .*it supports Add, "):
        read_network(tmp_path / "network.onnx")
