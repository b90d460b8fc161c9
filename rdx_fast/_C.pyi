from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Band = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]
Taps = tuple[NDArray[np.int32], NDArray[np.float32]]

def isas() -> str: ...

class Epilogue:
    def __init__(
        self,
        maps: NDArray[np.float32] | None,
        labels: NDArray[np.uint8] | None,
        extents: NDArray[np.int32] | None,
        thresholds: NDArray[np.float32],
        top_k: int,
        maxima: NDArray[np.float32],
        top_means: NDArray[np.float32] | None,
        areas: NDArray[np.int64],
    ) -> None: ...

def cosine_maps(
    teacher: Sequence[NDArray[np.generic]],
    student: Sequence[NDArray[np.generic]],
    out: Sequence[NDArray[np.float32]],
    element: str,
    threads: int,
    isa: str,
) -> None: ...
def smooth_map(
    distances: Sequence[NDArray[np.float32]],
    rows: Sequence[Band],
    columns: Sequence[Band],
    epilogue: Epilogue,
    threads: int,
    isa: str,
) -> None: ...
def fuse_mul(
    distances: Sequence[NDArray[np.float32]],
    rows: Sequence[Band],
    columns: Sequence[Band],
    blur_rows: Band,
    blur_columns: Band,
    epilogue: Epilogue,
    threads: int,
    isa: str,
) -> None: ...
def summarize(maps: NDArray[np.float32], epilogue: Epilogue, threads: int, isa: str) -> None: ...
def blend(
    maps: NDArray[np.float32],
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    places: NDArray[np.int64],
    canvas: NDArray[np.float32],
    isa: str,
) -> None: ...
def resize_normalize(
    frame: NDArray[np.uint8 | np.uint16],
    out: NDArray[np.float32] | NDArray[np.float16],
    format: str,
    red_row: int,
    red_column: int,
    black: int,
    span: int,
    rows: Taps,
    columns: Taps,
    gain: NDArray[np.float32],
    offset: NDArray[np.float32],
    threads: int,
    isa: str,
) -> None: ...
