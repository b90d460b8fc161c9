"""Every operation by every implementation, on NumPy arrays and with poisoned output buffers.

Triton's kernels run on the GPU where there is one, else in Triton's interpreter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from rdx_fast.bench import triton_operations
from rdx_fast.kernels import blend as blend_module
from rdx_fast.kernels import cosine_map as cosine_module
from rdx_fast.kernels import epilogue as epilogue_module
from rdx_fast.kernels import fuse_mul as fuse_module
from rdx_fast.kernels import resize_normalize as resize_module
from rdx_fast.kernels import smooth_map as smooth_module
from rdx_fast.kernels.epilogue import Epilogue, MapStats
from rdx_fast.kernels.native import ISAS
from rdx_fast.kernels.operators import Band
from rdx_fast.kernels.resize_taps import Window

COMPILED = tuple(ISAS)
IMPLEMENTATIONS = ("numpy", *COMPILED, "triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
_MODULES = (
    cosine_module,
    smooth_module,
    fuse_module,
    epilogue_module,
    blend_module,
    resize_module,
)


@contextmanager
def running(implementation: str) -> Iterator[None]:
    """Let the CPU's operations use NumPy alone, or one instruction set; new buffers hold NaN."""
    with ExitStack() as stack:
        for module in _MODULES:
            if implementation == "numpy":
                stack.enter_context(patch.object(module, "native", None))
            else:
                stack.enter_context(patch.object(module, "ISAS", (implementation,)))
        stack.enter_context(patch.object(np, "empty", _poisoned))
        yield


def _poisoned(shape: Any, dtype: Any = float, **_: Any) -> NDArray[Any]:
    return np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else 99, dtype)


def _poisoned_buffer(
    like: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None
) -> torch.Tensor:
    kind = dtype or like.dtype
    return like.new_full(shape, float("nan") if kind.is_floating_point else 99, dtype=kind)


def tensor(array: NDArray[Any]) -> torch.Tensor:
    """On the device, with the array's layout where torch can have it."""
    if array.dtype.name == "bfloat16":
        return tensor(array.view(np.uint16)).view(torch.bfloat16)
    if any(stride < 0 for stride in array.strides) or not array.flags.writeable:
        array = array.copy()
    return torch.from_numpy(array).to(DEVICE)


def cosine_maps(
    implementation: str,
    teacher: Sequence[NDArray[Any]],
    student: Sequence[NDArray[Any]],
    threads: int = 1,
) -> list[NDArray[np.float32]]:
    if implementation != "triton":
        with running(implementation):
            return cosine_module.cosine_maps(teacher, student, threads)
    with patch.object(triton_operations, "_buffer", _poisoned_buffer):
        maps = triton_operations.cosine_maps(
            [tensor(t) for t in teacher], [tensor(s) for s in student]
        )
    return [m.cpu().numpy() for m in maps]


def smooth_map(
    implementation: str,
    distances: Sequence[NDArray[np.float32]],
    rows: Sequence[Band],
    columns: Sequence[Band],
    epilogue: Epilogue | None = None,
    maps: bool = True,
    threads: int = 1,
) -> tuple[NDArray[np.float32] | None, MapStats]:
    """Maps, if wanted, and their summary; ``columns`` not yet transposed."""
    epilogue = epilogue or Epilogue()
    across = [b.transposed for b in columns]
    out = _poisoned((len(distances[0]), len(rows[0].first), len(columns[0].first)), np.float32)
    if implementation != "triton":
        with running(implementation):
            target = out if maps else None
            found = smooth_module.smooth_map(distances, rows, across, epilogue, target, threads)
            return target, found
    operators = triton_operations.Operators.of(rows, across, DEVICE)
    return _on_triton(
        triton_operations.smooth_map, distances, operators, epilogue, out if maps else None
    )


def fuse_mul(
    implementation: str,
    distances: Sequence[NDArray[np.float32]],
    rows: Sequence[Band],
    columns: Sequence[Band],
    blur: tuple[Band, Band],
    epilogue: Epilogue | None = None,
    threads: int = 1,
) -> tuple[NDArray[np.float32], MapStats]:
    epilogue = epilogue or Epilogue()
    across = [b.transposed for b in columns]
    out = _poisoned((len(distances[0]), len(blur[0].first), len(blur[1].first)), np.float32)
    gaussian = (blur[0], blur[1].transposed)
    if implementation != "triton":
        with running(implementation):
            found = fuse_module.fuse_mul(distances, rows, across, *gaussian, epilogue, out, threads)
            return out, found
    rows_of, columns_of = ([b] for b in gaussian)
    operators = triton_operations.Operators.of(rows_of, columns_of, DEVICE)
    maps, summary = _on_triton(triton_operations.fuse_mul, distances, operators, epilogue, out)
    assert maps is not None
    return maps, summary


def summarize(
    implementation: str,
    maps: NDArray[np.float32],
    epilogue: Epilogue,
    first: tuple[int, int] = (0, 0),
    threads: int = 1,
) -> MapStats:
    """By the CPU's implementations alone."""
    with running(implementation):
        return epilogue_module.summarize(maps, epilogue, first, threads)


def blend(
    implementation: str,
    tiles: NDArray[np.float32],
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    places: NDArray[np.int64],
    canvas: NDArray[np.float32],
) -> None:
    """By the CPU's implementations alone."""
    with running(implementation):
        blend_module.blend(tiles, rows, columns, places, canvas)


def _on_triton(
    run: Any,
    distances: Sequence[NDArray[np.float32]],
    operators: triton_operations.Operators,
    epilogue: Epilogue,
    out: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float32] | None, MapStats]:
    target = None if out is None else tensor(out)
    with patch.object(triton_operations, "_buffer", _poisoned_buffer):
        found = run([tensor(d) for d in distances], operators, epilogue, target)
    arrays: list[Any] = [None if x is None else x.cpu().numpy() for x in found]
    summary = MapStats(*arrays)
    return None if target is None else target.cpu().numpy(), summary


def resize_normalize(
    implementation: str,
    frame: NDArray[np.uint8 | np.uint16],
    out: NDArray[Any],
    mean: Sequence[float],
    std: Sequence[float],
    pixel_format: str | None = None,
    crop: tuple[int, int, int, int] | None = None,
    threads: int = 1,
    levels: tuple[int, int] | None = None,
    window: Window | None = None,
) -> None:
    if implementation != "triton":
        with running(implementation):
            resize_module.resize_normalize(
                frame, out, mean, std, pixel_format, crop, threads, levels, window
            )
        return
    assert window is None
    target = tensor(out)
    triton_operations.resize_normalize(
        tensor(frame)[None], target[None], mean, std, pixel_format, crop, levels
    )
    out[...] = target.cpu().numpy()
