"""Each C++ kernel once, on what ``efficientnet_lite0`` makes at 256 x 256: run under callgrind."""

from __future__ import annotations

import numpy as np

from rdx_fast.bundle.manifest import MapSpec, ScaleSpec
from rdx_fast.kernels.blend import blend
from rdx_fast.kernels.epilogue import Epilogue, summarize
from rdx_fast.kernels.native import ISAS
from rdx_fast.kernels.resize_normalize import resize_normalize
from rdx_fast.postprocess import AnomalyMapper

SCALES = (ScaleSpec(24, 64, 64), ScaleSpec(40, 32, 32), ScaleSpec(112, 16, 16))


def main() -> None:
    rng = np.random.default_rng(0)
    teacher, student = (
        [
            rng.random((1, s.height, s.width, s.channels), np.float32).transpose(0, 3, 1, 2)
            for s in SCALES
        ]
        for _ in range(2)
    )
    for fusion in ("add", "mul"):
        spec = MapSpec(256, 256, fusion, sigma=4.0, truncate=4.0, border="reflect")
        AnomalyMapper(spec, SCALES)(teacher, student)
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((64, 64))).astype(np.uint8)
    maps = rng.random((1, 256, 256), np.float32)
    summarize(maps, Epilogue(labels, (0.5,) * 16))
    weights = np.ones((1, 256), np.float32)
    blend(maps, weights, weights, np.zeros((1, 2), np.int64), np.zeros((256, 256), np.float32))
    frame, out = np.zeros((1024, 1024, 3), np.uint8), np.empty((3, 256, 256), np.float32)
    resize_normalize(frame, out, (0, 0, 0), (1, 1, 1))
    resize_normalize(frame[..., 0], out, (0, 0, 0), (1, 1, 1), "bayer_rggb")
    print(ISAS[0])


if __name__ == "__main__":
    main()
