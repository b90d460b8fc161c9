from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import fx
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.engines import GpuOptions, torch_fusion
from rdx_fast.engines.torch_engine import TorchEngine, _set_up_cudnn
from rdx_fast.engines.torch_fusion import (
    conv_add_relu,
    conv_relu,
    fuse,
    merge_biases,
    reserve_zeros,
)
from rdx_fast.engines.torch_graph import convolution, read_network
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


def features(network: Any, image: torch.Tensor) -> list[torch.Tensor]:
    with torch.inference_mode():
        teacher, student = network(image)
    return [*teacher, *student]


def steps(network: fx.GraphModule) -> Counter[Any]:
    return Counter(node.target for node in network.graph.nodes if node.op == "call_function")


def exported_network(
    networks: Path, method: str, backbone: str, precision: str = "fp32"
) -> tuple[fx.GraphModule, torch.Tensor]:
    """A network channels-last, and an image."""
    network, dtype = read_network(
        networks / f"{method}-{backbone}-{precision}" / f"network_{precision}.onnx"
    )
    image, _ = exported.recorded(networks, method, backbone)
    placed = network.to(memory_format=torch.channels_last)
    return placed, torch.from_numpy(image).to(dtype)


class OnCuDnn(TorchDispatchMode):
    """cuDNN's fused operators, computed as their schemas in torch name the arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[float] = Counter()  # by what the summand is multiplied with
        self.added_times_0: set[float] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name != "aten::cudnn_convolution_add_relu":
            return func(*args, **(kwargs or {}))
        given = dict(zip([a.name for a in func._schema.arguments], args, strict=True))
        self.calls[given["alpha"]] += 1
        if not given["alpha"]:
            self.added_times_0 |= set(given["z"].unique().tolist())
        options = [given[k] for k in ("bias", "stride", "padding", "dilation", "groups")]
        result = functional.conv2d(given["self"], given["weight"], *options)
        assert given["z"].shape == result.shape
        assert given["z"].is_contiguous(memory_format=torch.channels_last)
        return functional.relu(result + given["alpha"] * given["z"])


@pytest.mark.parametrize(("method", "backbone"), exported.NETWORKS)
def test_fused_networks_give_the_same(
    method: str, backbone: str, networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, image = exported_network(networks, method, backbone)
    expected, before = features(network, image), steps(network)
    made = fuse(network, image)
    after = steps(network)
    print(method, backbone, sum(before.values()), "steps,", sum(after.values()), "fused,", made)
    assert made == after[conv_relu] + after[conv_add_relu]
    assert after[functional.relu] == before[functional.relu] - made
    assert after[operator.add] == before[operator.add] - after[conv_add_relu]
    assert after[convolution] == before[convolution] - made
    for found, wanted in zip(features(network, image), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    # No ReLU is left of which a convolution alone computes the value, but of the image's.
    for relu in network.graph.find_nodes(op="call_function", target=functional.relu):
        (value,) = relu.args
        of_the_image = value.target is convolution and value.args[0].op == "placeholder"
        assert of_the_image or value.target is not convolution or len(value.users) > 1
    # The same through cuDNN's operators: each argument is where torch expects it.
    monkeypatch.setattr(torch_fusion, "_in_cudnn", lambda _: True)
    reserve_zeros(network, len(image))
    with OnCuDnn() as cudnn:
        through = features(network, image)
    for found, wanted in zip(through, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert cudnn.calls == Counter({0.0: after[conv_relu], 1.0: after[conv_add_relu]})


@pytest.mark.parametrize(
    ("build", "moved"),
    [
        (lambda g, x, conv: [relu_of(g, added(g, conv(x), conv(x)))], 1),
        (lambda g, x, conv: [added(g, conv(x, groups=2), conv(x))], 1),
        (lambda g, x, conv: [added(g, c := conv(x), conv(x)), c], 0),  # an output with its bias
        (lambda g, x, conv: [added(g, c := conv(x), c)], 0),
        (lambda g, x, conv: [added(g, conv(x), conv(x, bias=False))], 0),
        (lambda g, x, conv: [added(g, conv(x), x)], 0),
    ],
)
def test_biases_of_a_sum(build: Any, moved: int) -> None:
    network = small_graph(build)
    image = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = features(network, image)
    assert merge_biases(network, image) == moved
    found = network.graph.find_nodes(op="call_function", target=convolution)
    without = [c for c in found if len(c.args) == 2]
    # The one that keeps its bias is fused with the addition: grouped ones are not.
    grouped = [c for c in found if c.kwargs["groups"] > 1]
    assert len(without) >= moved
    assert set(grouped) <= set(without)
    for found, wanted in zip(features(network, image), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("method", "backbone"), [("rd4ad", "resnet18")])
def test_biases_of_resnets(method: str, backbone: str, networks: Path) -> None:
    """Of each shortcut with a convolution; what is left is fused as before."""
    network, image = exported_network(networks, method, backbone)
    expected = features(network, image)
    assert merge_biases(network, image) == 2 + 1 + 3  # teacher, bottleneck, decoder
    for found, wanted in zip(features(network, image), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    again, _ = exported_network(networks, method, backbone)
    assert fuse(network, image) == fuse(again, image)


@pytest.mark.parametrize(("method", "backbone"), [("rd4ad", "resnet18")])
def test_what_is_fused_of_resnets(method: str, backbone: str, networks: Path) -> None:
    network, image = exported_network(networks, method, backbone, "fp16")
    assert fuse(network, image)
    after = steps(network)
    assert min(after[conv_relu], after[conv_add_relu]) > 10
    in_bf16, image = exported_network(networks, method, backbone)
    assert fuse(in_bf16.to(torch.bfloat16), image.to(torch.bfloat16)) == 0


def small_graph(build: Callable[[fx.Graph, fx.Node, Callable[..., fx.Node]], Any]) -> Any:
    """A network whose graph ``build`` makes of an image and of convolutions ``[B, 8, 8, 8]``."""
    root, graph = torch.nn.Module(), fx.Graph()
    image = graph.placeholder("image")

    def conv(x: fx.Node, groups: int = 1, bias: bool = True, channels: int = 8) -> fx.Node:
        generator = torch.Generator().manual_seed(len(graph.nodes))
        given = [x]
        shapes = [(channels, 8 // groups, 3, 3), *([(channels,)] if bias else [])]
        for shape in shapes:
            name = f"constant_{len(graph.nodes)}"
            value = torch.randn(shape, generator=generator)
            root.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
            given.append(graph.get_attr(name))
        options = {"pads": (1, 1, 1, 1), "stride": (1, 1), "dilation": (1, 1), "groups": groups}
        return graph.call_function(convolution, tuple(given), options)

    outputs = build(graph, image, conv)
    graph.output(([outputs[0]], list(outputs[1:])))
    return fx.GraphModule(root, graph)


def relu_of(graph: fx.Graph, value: fx.Node) -> fx.Node:
    return graph.call_function(functional.relu, (value,))


def added(graph: fx.Graph, *values: Any) -> fx.Node:
    return graph.call_function(operator.add, values)


@pytest.mark.parametrize(
    ("build", "made"),
    [
        (lambda g, x, conv: [relu_of(g, conv(x)), relu_of(g, added(g, x, conv(x)))], 2),
        (lambda g, x, conv: [relu_of(g, added(g, conv(x), conv(x)))], 1),
        (lambda g, x, conv: [relu_of(g, c := conv(x)), c], 0),  # also an output
        (lambda g, x, conv: [relu_of(g, s := added(g, conv(x), x)), s], 0),
        (lambda g, x, conv: [relu_of(g, added(g, c := conv(x), x)), relu_of(g, c)], 0),
        (lambda g, x, conv: [relu_of(g, added(g, c := conv(x), c))], 0),
        (lambda g, x, conv: [relu_of(g, added(g, conv(x), 1.5))], 0),
        (lambda g, x, conv: [relu_of(g, added(g, conv(x, channels=1), x))], 0),  # broadcast
        (lambda g, x, conv: [relu_of(g, conv(x, groups=2))], 0),
        (lambda g, x, conv: [relu_of(g, conv(x, bias=False))], 0),
        (lambda g, x, conv: [relu_of(g, x), conv(x)], 0),
    ],
)
def test_what_is_fused(build: Any, made: int) -> None:
    network = small_graph(build)
    image = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = features(network, image)
    assert fuse(network, image) == made
    for found, wanted in zip(features(network, image), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_uneven_padding_before_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = torch.randn(2, 3, 9, 11), torch.randn(4, 3, 3, 3)
    b = torch.randn(4)
    options: dict[str, Any] = {"pads": (0, 1, 1, 2), "stride": (2, 1), "dilation": (1, 2)}
    plain = convolution(x, w, b, **options, groups=1)
    other = torch.randn_like(plain).contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(torch_fusion, "_in_cudnn", lambda _: True)
    with OnCuDnn(), torch.inference_mode():
        zeros = torch.zeros(plain.numel())
        alone = conv_relu(x, w, b, zeros, size=tuple(plain.shape[1:]), **options, groups=1)
        summed = conv_add_relu(x, w, b, other, **options, groups=1)
    torch.testing.assert_close(alone, functional.relu(plain), rtol=0, atol=0)
    torch.testing.assert_close(summed, functional.relu(plain + other), rtol=0, atol=0)


def test_the_engine_says_that_it_fuses(exported_as: Callable[..., Bundle]) -> None:
    bundle = exported_as("fp16")
    spec = bundle.manifest.input
    image = np.random.default_rng(0).random((1, 3, spec.height, spec.width), np.float32)
    found = []
    for fused in (True, False):
        engine = TorchEngine(bundle, "cpu", GpuOptions(fuse=fused))
        assert engine.description.endswith(", fused") is fused
        (chunk,) = engine.run(image)
        found.append([*chunk.teacher, *chunk.student])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_compiled_networks_stay_as_exported(
    exported_as: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    engine = TorchEngine(exported_as("fp16"), "cpu", GpuOptions(compile=True))
    assert engine.description.endswith(", compiled")
    assert not steps(engine._network).keys() & {conv_relu, conv_add_relu}


@pytest.mark.parametrize(("method", "backbone"), [("rd4ad", "resnet18")])
def test_fused_steps_read_no_memory_but_their_own(
    method: str, backbone: str, networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they add times 0 is zero, in each position of the largest output too."""
    network, image = exported_network(networks, method, backbone)
    assert fuse(network, image)
    batch = image[:1].repeat(3, 1, 1, 1)
    monkeypatch.setattr(torch_fusion, "_in_cudnn", lambda _: True)
    with pytest.raises(RuntimeError, match="invalid for input of size 0"):
        features(network, batch)
    zeros = reserve_zeros(network, 3)
    assert reserve_zeros(network, 2) is zeros
    with OnCuDnn() as cudnn:
        features(network, batch)
    assert cudnn.added_times_0 == {0.0}
    assert reserve_zeros(network, 4) is not zeros


def test_a_cudnn_without_a_kernel(
    exported_as: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchEngine, "on_device", True)

    monkeypatch.setattr(torch_fusion, "_in_cudnn", lambda _: True)  # the CPU has none at all
    with pytest.warns(UserWarning, match="without fused operators: .*cudnn_convolution_add_relu"):
        engine = TorchEngine(exported_as("fp16"), "cpu")
    assert "fused" not in engine.description
    assert not steps(engine._network)[conv_relu]


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


def test_bf16(whole_bundle: Bundle, parts: Path) -> None:
    images = [read_image(p) for p in list_images(parts / "test")]
    with (
        Detector(whole_bundle.path, "openvino", precision="fp32") as a,
        Detector(TorchEngine(whole_bundle, "cpu", precision="bf16")) as b,
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


def test_what_torch_does_not_run(whole_bundle: Bundle, bundle: Bundle, tmp_path: Path) -> None:
    whole = whole_bundle.manifest
    int8 = tuple(e for e in whole.executions if e.executed == "int8")
    networks = {e.stored: whole.networks[e.stored] for e in int8}
    quantised = replace(whole, executions=int8, networks=networks)
    with pytest.raises(EngineError, match=r"torch: it holds int8, int8 of .*\. No network"):
        TorchEngine(Bundle(whole_bundle.path, quantised), "cpu")
    model = onnx.load(bundle.network("fp32"))
    model.graph.node[0].op_type = "Hardmax"
    onnx.save(model, tmp_path / "network.onnx")
    with pytest.raises(EngineError, match=r"the operator Hardmax .*it supports Add, "):
        read_network(tmp_path / "network.onnx")
