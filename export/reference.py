"""A network run by ONNX Runtime: the graph's own arithmetic, on any CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdx_fast.engines.engine import Chunk
from rdx_fast.errors import MissingDependencyError


class OnnxNetwork:
    """The ONNX file of a bundle; slow, and right about quantised graphs on every CPU."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            if error.name != "onnxruntime":
                raise
            raise MissingDependencyError("onnxruntime", "precision int8", "train") from error
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        """``inputs: [B, 3, H, W] float32``, all in one chunk."""
        names = [output.name for output in self._session.get_outputs()]
        maps = dict(zip(names, self._session.run(None, {"image": inputs}), strict=True))
        scales = range(len(maps) // 2)
        teacher, student = ([maps[f"{p}_{s}"] for s in scales] for p in ("teacher", "student"))
        yield Chunk(0, teacher, student)
