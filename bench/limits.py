"""Upper limits of this machine, measured with a matrix product and a copy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from time import perf_counter

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino.properties import hint, inference_num_threads

from rdx_fast.engines.openvino.compilation import CORE

COPY_BYTES = 128 * 2**20  # far beyond any cache


def matrix_gflops(threads: int, size: int = 1024, seconds: float = 1.0) -> float:
    """Speed of a float32 matrix product in OpenVINO, which also runs the network.

    Args:
        threads: CPU threads
        size: of the square matrices
        seconds: duration of the measurement

    Returns:
        10^9 operations per second, where a multiply-add counts as two
    """
    left, right = (ops.parameter([size, size], np.float32) for _ in range(2))
    model = ov.Model([ops.matmul(left, right, False, False)], [left, right])
    # With the precision set, since OpenVINO's default is bfloat16 on CPUs that have it.
    config = {inference_num_threads(): threads, hint.inference_precision(): ov.Type.f32}
    compiled = CORE.compile_model(model, "CPU", config)
    request = compiled.create_infer_request()
    values = [np.ones((size, size), np.float32) for _ in range(2)]
    request.infer(values, share_inputs=True)
    best, end = np.inf, perf_counter() + seconds
    while perf_counter() < end:
        begin = perf_counter()
        request.infer(values, share_inputs=True)
        best = min(best, perf_counter() - begin)
    return 2 * size**3 / best / 1e9


def copy_gb_s(threads: int, seconds: float = 1.0) -> float:
    """Speed of copies on ``threads`` threads in 10^9 bytes per second, read and written."""
    source = np.zeros(COPY_BYTES, np.uint8)
    target = np.ones_like(source)
    parts = [slice(*ends) for ends in _ends(COPY_BYTES, threads)]
    best, end = np.inf, perf_counter() + seconds
    with ThreadPoolExecutor(threads) as pool:
        while perf_counter() < end:
            begin = perf_counter()
            list(pool.map(lambda part: np.copyto(target[part], source[part]), parts))
            best = min(best, perf_counter() - begin)
    return 2 * COPY_BYTES / best / 1e9


def _ends(count: int, parts: int) -> list[tuple[int, int]]:
    ends = np.linspace(0, count, parts + 1).astype(int)
    return [(int(a), int(b)) for a, b in pairwise(ends)]
