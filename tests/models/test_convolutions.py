"""The convolutions with gradients of their own, against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rdx_fast.models import convolutions
from rdx_fast.models.convolutions import Deconv2x2, DepthwiseConv2d, StridedConv3x3

KINDS = {
    "3 x 3": lambda: DepthwiseConv2d(12, 3, 1, 1),
    "3 x 3, stride 2": lambda: DepthwiseConv2d(12, 3, 2, 0),
    "5 x 5": lambda: DepthwiseConv2d(12, 5, 1, 2),
    "5 x 5, stride 2": lambda: DepthwiseConv2d(12, 5, 2, 0),
    "strided": lambda: StridedConv3x3(12, 7),
    "transposed": lambda: Deconv2x2(12, 7),
}


def plain(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """Torch's own convolution with the same weights."""
    kind = nn.ConvTranspose2d if isinstance(conv, nn.ConvTranspose2d) else nn.Conv2d
    own = kind(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        groups=conv.groups,
        bias=False,
    )
    own.load_state_dict(conv.state_dict())
    return own.to(conv.weight.dtype)


def gradients(conv: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and gradients of input and weights."""
    x = x.detach().clone().requires_grad_()
    y = conv(x)
    (y.double() * torch.linspace(-1, 1, y.numel()).view(y.shape).double()).sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad, next(conv.parameters()).grad  # type: ignore[return-value]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(17, 20), (16, 23), (5, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_same_function_and_gradients(
    kind: str, size: tuple[int, int], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    conv = KINDS[kind]().double().train()
    x = torch.randn(2, 12, *size).double().to(memory_format=layout)
    for ours, theirs in zip(gradients(conv, x), gradients(plain(conv), x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_as_exact_as_torchs(kind: str) -> None:
    torch.manual_seed(0)
    conv = KINDS[kind]().train()
    x = torch.randn(2, 12, 17, 20).to(memory_format=torch.channels_last)
    exact = gradients(plain(conv), x)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = gradients(conv, x), gradients(plain(conv), x)
    assert ours[0].dtype == torch.bfloat16
    for own, other, true in zip(ours, theirs, exact, strict=True):
        error, least = ((v.float() - true).norm() / true.norm() for v in (own, other))
        assert error < max(2 * least, 2**-9)


def test_without_gradients_they_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    def used(*_: object) -> None:
        raise AssertionError("a gradient of our own")

    monkeypatch.setattr(convolutions, "_cast", used)
    for make in KINDS.values():
        conv = make()
        x = torch.randn(1, 12, 17, 20)
        with torch.no_grad():
            wanted = plain(conv)(x)
            assert torch.equal(conv(x), wanted)
        frozen = make().requires_grad_(False)
        frozen.load_state_dict(conv.state_dict())
        assert torch.equal(frozen(x), wanted)
        for learning in (conv.train(), conv.eval()):  # with batch statistics or without
            with pytest.raises(AssertionError, match="of our own"):
                learning(x)


def test_other_kernels() -> None:
    with pytest.raises(ValueError, match="kernel is 7: wanted 3 or 5"):
        DepthwiseConv2d(4, 7, 1, 3)


def test_depthwise_input_without_gradient() -> None:
    conv = DepthwiseConv2d(4, 3, 1, 1).train()
    conv(torch.randn(1, 4, 8, 8)).sum().backward()
    assert conv.weight.grad is not None
