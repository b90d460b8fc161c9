"""The operations on torch tensors, run by Triton, with the same contracts as those for CPUs.

For tests and benchmarks; pipelines queue the same launches through a device. See
``kernels.on_triton`` for their requirements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdx_fast.kernels.cosine_map import check_features
from rdx_fast.kernels.epilogue import Epilogue
from rdx_fast.kernels.gpu import cosine_map as gpu_cosine_map
from rdx_fast.kernels.gpu import fuse_mul as gpu_fuse_mul
from rdx_fast.kernels.gpu import resize_normalize as gpu_resize_normalize
from rdx_fast.kernels.gpu import smooth_map as gpu_smooth_map
from rdx_fast.kernels.gpu.launch import Launch, dtype_name
from rdx_fast.kernels.on_triton import architecture_of, run
from rdx_fast.kernels.operators import Band, packed
from rdx_fast.kernels.resize_normalize import (
    BAYER,
    Crop,
    Levels,
    affine,
    check_crop,
    check_levels,
    check_pixel_format,
)
from rdx_fast.kernels.resize_taps import resize_taps


class Operators(NamedTuple):
    """Bands of all scales on a device, from distance maps of sizes ``inputs`` to maps of ``size``
    (height, width)."""

    matrices: Tensor
    bands: Tensor
    inputs: tuple[tuple[int, int], ...]
    size: tuple[int, int]

    def check(self, distances: Sequence[Tensor]) -> None:
        """Raises ``ValueError`` unless the distance maps fit the operators."""
        wanted = [(len(distances[0]), *size) for size in self.inputs]
        given = [tuple(d.shape) for d in distances]
        if given != wanted or {d.dtype for d in distances} != {torch.float32}:
            raise ValueError(
                f"distance maps are {given} of {distances[0].dtype}, the operators want {wanted} "
                f"of float32"
            )

    def launch(self, distances: Sequence[Tensor], held: gpu_smooth_map.Epilogues) -> Launch:
        """``smooth_map`` of contiguous distance maps into :func:`buffers`."""
        architecture = architecture_of(distances[0])
        return gpu_smooth_map.launch(
            distances, self.matrices, self.bands, self.size, held, architecture
        )

    @classmethod
    def of(cls, rows: Sequence[Band], columns: Sequence[Band], device: Any) -> Operators:
        """``rows[s]: [H, h_s]``, ``columns[s]: [W, w_s]`` transposed, as ``smooth_map`` takes."""
        matrices, bands = packed(rows, columns)
        inputs = [
            (a.matrix.shape[1], b.matrix.shape[0]) for a, b in zip(rows, columns, strict=True)
        ]
        return cls(
            torch.from_numpy(matrices).to(device),
            torch.from_numpy(bands).to(device),
            tuple(inputs),
            (len(rows[0].first), len(columns[0].first)),
        )


class DeviceMapStats(NamedTuple):
    """``epilogue.MapStats`` as tensors on the device."""

    maxima: Tensor
    top_means: Tensor | None
    areas: Tensor


def cosine_maps(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> list[Tensor]:
    """``cosine_map.cosine_maps``, all scales in one launch. Maps that are neither all contiguous
    nor all channels-last are copied into the contiguous layout first."""
    check_features(teacher, student)
    if gpu_cosine_map.common_layout((*teacher, *student)) is None:
        teacher, student = ([x.contiguous() for x in maps] for maps in (teacher, student))
    out = [_buffer(t, (t.shape[0], *t.shape[2:]), torch.float32) for t in teacher]
    run(gpu_cosine_map.launch(teacher, student, out, architecture_of(teacher[0])))
    return out


def smooth_map(
    distances: Sequence[Tensor],
    operators: Operators,
    epilogue: Epilogue | None = None,
    out: Tensor | None = None,
) -> DeviceMapStats:
    """``smooth_map.smooth_map`` on the device.

    Args:
        distances: distance maps, finest first
        operators: bands of all scales
        epilogue: what is computed from the maps; None for the maximum of the whole map
        out: the maps are written to it, ``[B, H, W]`` float32. Without it no maps are written,
            except to scratch memory on the device if ``top_k`` needs them
    """
    operators.check(distances)
    held = buffers(distances[0], operators.size, epilogue, out)
    run(operators.launch([d.contiguous() for d in distances], held))
    return DeviceMapStats(held.maxima, held.top_means if held.top_k else None, held.areas)


def buffers(
    like: Tensor,
    size: tuple[int, int],
    epilogue: Epilogue | None = None,
    out: Tensor | None = None,
) -> gpu_smooth_map.Epilogues:
    """Allocate the buffers that a launch of ``smooth_map`` writes to, on the device of ``like``.

    They serve any number of consecutive launches for the batch of ``like``, ``[B, ...]`` float32.

    Raises:
        ValueError: epilogue or ``out`` do not fit
    """
    batch = len(like)
    epilogue = epilogue or Epilogue()
    epilogue.check(*size)
    if out is not None and (
        out.dtype != torch.float32 or out.shape != (batch, *size) or not out.is_contiguous()
    ):
        raise ValueError(
            f"out is {out.dtype} {list(out.shape)}, wanted contiguous float32 {[batch, *size]}"
        )
    if out is None and epilogue.top_k:
        out = _buffer(like, (batch, *size))
    labels, each = epilogue.labels, (batch, epilogue.regions)
    return gpu_smooth_map.Epilogues(
        labels=torch.tensor([0] if labels is None else labels, dtype=torch.uint8).to(like.device),
        has_labels=labels is not None,
        thresholds=torch.tensor(epilogue.thresholds, dtype=torch.float32).to(like.device),
        regions=epilogue.regions,
        top_k=epilogue.top_k,
        maps=_buffer(like, (1,)) if out is None else out,
        write_maps=out is not None,
        keys_so_far=like.new_zeros(each, dtype=torch.uint32),
        areas_so_far=like.new_zeros(each, dtype=torch.int32),
        tiles_done=like.new_zeros(batch, dtype=torch.int32),
        maxima=like.new_full(each, math.nan),
        areas=like.new_zeros(each, dtype=torch.int64),
        top_means=like.new_full((batch,), math.nan),
    )


def fuse_mul(
    distances: Sequence[Tensor],
    blur: Operators,
    epilogue: Epilogue | None = None,
    out: Tensor | None = None,
) -> DeviceMapStats:
    """``fuse_mul.fuse_mul`` on the device; it also upsamples to the size of ``blur``, the operators
    of the Gaussian only, of one scale."""
    if len({len(d) for d in distances}) > 1 or {d.dtype for d in distances} != {torch.float32}:
        raise ValueError(
            f"distance maps are {[tuple(d.shape) for d in distances]} of {distances[0].dtype}, "
            f"wanted one batch of float32"
        )
    product = _buffer(distances[0], (len(distances[0]), *blur.size))
    contiguous = [d.contiguous() for d in distances]
    run(gpu_fuse_mul.launch(contiguous, product, architecture_of(product)))
    return smooth_map([product], blur, epilogue, out)


def resize_normalize(
    frames: Tensor,
    out: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    pixel_format: str | None = None,
    crop: Crop | None = None,
    levels: Levels | None = None,
) -> None:
    """``resize_normalize.resize_normalize`` of a batch of frames of one size on the device.

    Frames are ``[B, H, W, 3]`` or ``[B, H, W]``, uint8 or uint16, with rows of any pitch; ``out``
    is ``[B, 3, h, w]`` float32 or float16.
    """
    shape = tuple(frames.shape[1:])
    kinds = (torch.uint8, torch.uint16)
    if frames.dtype not in kinds or frames.ndim not in (3, 4) or shape[2:] not in ((), (3,)):
        raise ValueError(
            f"frames are {frames.dtype} {list(frames.shape)}, wanted uint8 or uint16 "
            f"[B, H, W, 3] or [B, H, W]"
        )
    pixel_format = check_pixel_format(shape, pixel_format)
    top, left, height, width = check_crop(shape[:2], crop)
    black, white = check_levels(np.dtype(dtype_name(frames)), levels)
    if frames.stride()[2:] not in ((3, 1), (1,)):
        frames = frames.contiguous()
    bayer = pixel_format in BAYER
    device = str(frames.device)
    if out.ndim != 4 or out.shape[:2] != (len(frames), 3):
        raise ValueError(f"out is {list(out.shape)}, wanted [{len(frames)}, 3, h, w]")
    launch = gpu_resize_normalize.launch(
        frames,
        pixel_format,
        BAYER.get(pixel_format, (0, 0)),
        (black, white),
        _device_taps(shape[0], top, height, out.shape[2], bayer, device),
        _device_taps(shape[1], left, width, out.shape[3], bayer, device),
        *_device_affine(tuple(mean), tuple(std), white - black, device),
        out,
        architecture_of(frames),
    )
    run(launch)


@lru_cache(maxsize=64)
def _device_taps(
    size: int, start: int, length: int, out_size: int, bayer: bool, device: str
) -> tuple[Tensor, Tensor]:
    first, weights = resize_taps(size, start, length, out_size, bayer)
    return torch.from_numpy(first).to(device), torch.from_numpy(weights).to(device)


@lru_cache(maxsize=64)
def _device_affine(
    mean: tuple[float, ...], std: tuple[float, ...], span: int, device: str
) -> tuple[Tensor, Tensor]:
    gain, offset = affine(mean, std, span)
    return torch.tensor(gain, device=device), torch.tensor(offset, device=device)


def _buffer(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """An uninitialised tensor on the device of ``like``."""
    return like.new_empty(shape, dtype=dtype or like.dtype)
