"""Features to map, scores and verdict as ONNX operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from rdx_fast.export.standalone.graph import GraphBuilder, axes, scalar
from rdx_fast.kernels.cosine_map import EPS
from rdx_fast.manifest import MapSpec, ScaleSpec
from rdx_fast.postprocess import AnomalyMapper

# The output ``verdict``. The worst region decides.
VERDICTS = ("OK", "REVIEW", "NG", "ERROR")
# Distances are at most about 2, so no map value comes near this. float16 has it, and bfloat16:
# runtimes may round to either.
_LARGEST = 1e4


class RegionLimits(NamedTuple):
    """A region of the map, and how its score is judged.

    Attributes:
        name: of the region
        ok_below: a score at or below it is OK
        ng_above: a score above it is NG; between the two it is REVIEW
    """

    name: str
    ok_below: float
    ng_above: float


def check_limits(
    limits: Sequence[RegionLimits], labels: NDArray[np.uint8] | None, size: tuple[int, int]
) -> None:
    """Check regions and their limits.

    Args:
        limits: of the regions 1 to R
        labels: uint8 [h, w], 0 where nothing is inspected, r in the r-th region; None for one
            region that is the whole map
        size: height and width of the map

    Raises:
        ValueError: they do not fit each other or the map
    """
    for name, ok_below, ng_above in limits:
        if not -math.inf < ok_below <= ng_above < math.inf:
            raise ValueError(
                f"region {name!r} has ok_below {ok_below} and ng_above {ng_above}, wanted finite "
                f"numbers, the first at most the second"
            )
    names = [name for name, *_ in limits]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"the regions are {names}, wanted at least one, of different names")
    if labels is None:
        if len(names) > 1:
            raise ValueError(f"{len(names)} regions and no labels: labels say where each one is")
        return
    if labels.dtype != np.uint8 or labels.shape != size:
        raise ValueError(
            f"labels are {labels.dtype} {list(labels.shape)}, wanted uint8 {list(size)}"
        )
    found = set(np.unique(labels).tolist()) - {0}
    if found != set(range(1, len(names) + 1)):
        raise ValueError(
            f"labels hold the regions {sorted(found)}, wanted each of 1 to {len(names)}: "
            f"{', '.join(names)}"
        )


def add_map(
    graph: GraphBuilder,
    teacher: Sequence[str],
    student: Sequence[str],
    spec: MapSpec,
    scales: Sequence[ScaleSpec],
) -> None:
    """Add the nodes from features to ``map``, ``[B, h, w]`` float32.

    Args:
        graph: to which they are added
        teacher: names of the teacher's features by scale, ``[B, C_s, h_s, w_s]`` float32
        student: the student's, likewise
        spec: how the map is computed
        scales: of the features
    """
    mapper = AnomalyMapper(spec, scales)
    columns = [band.matrix for band in mapper.columns]  # transposed, [w_s, w]
    tall = []
    for s, (t, u) in enumerate(zip(teacher, student, strict=True)):
        distance = _distance(graph, f"distance_{s}", t, u)
        tall.append(graph.add("MatMul", f"distance_{s}/rows", mapper.rows[s].matrix, distance))
    if not mapper.multiplies:
        # The sum over scales is part of the product.
        row = graph.add("Concat", "map/rows", *tall, axis=2)
        graph.add("MatMul", "map", row, np.concatenate(columns))
        return
    product = ""
    for s, (one, column) in enumerate(zip(tall, columns, strict=True)):
        upsampled = graph.add("MatMul", f"distance_{s}/upsampled", one, column)
        product = graph.add("Mul", f"map/product_{s}", product, upsampled) if s else upsampled
    blur_rows, blur_columns = mapper.blur
    blurred = graph.add("MatMul", "map/rows", blur_rows.matrix, product)
    graph.add("MatMul", "map", blurred, blur_columns.matrix)


def _distance(graph: GraphBuilder, name: str, teacher: str, student: str) -> str:
    """Cosine distance ``[B, h, w]``, as in ``kernels/cosine_map.py``."""
    product = graph.add("Mul", f"{name}/product", teacher, student)
    dot = graph.add("ReduceSum", f"{name}/dot", product, axes(1), keepdims=0)
    norms = []
    for part, features in (("teacher", teacher), ("student", student)):
        norm = graph.add("ReduceL2", f"{name}/{part}_norm", features, axes(1), keepdims=0)
        norms.append(graph.add("Max", f"{name}/{part}_at_least", norm, scalar(EPS)))
    both = graph.add("Mul", f"{name}/norms", *norms)
    similarity = graph.add("Div", f"{name}/similarity", dot, both)
    return graph.add("Sub", name, scalar(1), similarity)


def add_verdict(
    graph: GraphBuilder, limits: Sequence[RegionLimits], labels: NDArray[np.uint8] | None
) -> None:
    """Add the nodes from ``map`` to ``score``, ``region_scores``, ``verdict`` and ``area``.

    A map with a value that is not finite, inside or outside the regions, was not inspected: its
    scores are NaN and its verdict is ERROR.

    Args:
        graph: to which they are added
        limits: of the regions
        labels: see ``check_limits``
    """
    ok_below, ng_above = np.array([limit[1:] for limit in limits], np.float32).T

    # "Less" is false of NaN everywhere. "Greater" is true of it in OpenVINO, so it is not used.
    magnitude = graph.add("Abs", "inspected/magnitude", "map")
    possible = graph.add("LessOrEqual", "inspected/possible", magnitude, scalar(_LARGEST))
    possible = graph.add("Cast", "inspected/counted", possible, to=TensorProto.INT32)
    every = graph.add("ReduceMin", "inspected/every", possible, axes(1, 2), keepdims=0)
    inspected = graph.add("Cast", "inspected", every, to=TensorProto.BOOL)
    by_region = graph.add("Unsqueeze", "inspected/by_region", inspected, axes(1))

    values = graph.add("Unsqueeze", "regions/map", "map", axes(1))
    if labels is not None:
        masks = labels == np.arange(1, len(limits) + 1)[:, None, None]
        values = graph.add("Where", "regions/values", masks, values, scalar(-_LARGEST))
    maxima = graph.add("ReduceMax", "regions/maxima", values, axes(2, 3), keepdims=0)
    largest = graph.add("ReduceMax", "regions/largest", maxima, axes(1), keepdims=0)
    graph.add("Where", "region_scores", by_region, maxima, scalar(math.nan))
    graph.add("Where", "score", inspected, largest, scalar(math.nan))

    above = graph.add("Less", "area/above", ng_above[:, None, None], values)
    above = graph.add("Cast", "area/counted", above, to=TensorProto.INT32)
    area = graph.add("ReduceSum", "area/sum", above, axes(2, 3), keepdims=0)
    graph.add("Cast", "area", area, to=TensorProto.INT64)

    code = {name: np.array(number, np.int32) for number, name in enumerate(VERDICTS)}
    good = graph.add("LessOrEqual", "verdict/ok", maxima, ok_below)
    bad = graph.add("Less", "verdict/ng", ng_above, maxima)
    told = graph.add("Where", "verdict/not_ok", bad, code["NG"], code["REVIEW"])
    told = graph.add("Where", "verdict/by_region", good, code["OK"], told)
    worst = graph.add("ReduceMax", "verdict/worst", told, axes(1), keepdims=0)
    graph.add("Where", "verdict", inspected, worst, code["ERROR"])
