"""Features to map, scores and verdict as ONNX operators."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from rdx_fast.bundle.manifest import MapSpec, ScaleSpec
from rdx_fast.export.standalone.graph import GraphBuilder, axes, scalar
from rdx_fast.kernels.cosine_map import EPS
from rdx_fast.limits.limits import VERDICTS as OF_PARTS
from rdx_fast.limits.limits import Limits
from rdx_fast.postprocess import AnomalyMapper

VERDICTS = (*OF_PARTS, "ERROR")  # by the number in the output ``verdict``
# Distances are at most about 2, so no map value comes near this. float16 has it, and bfloat16:
# runtimes may round to either.
_LARGEST = 1e4


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
    graph: GraphBuilder, limits: Sequence[Limits], labels: NDArray[np.uint8] | None
) -> None:
    """Add the nodes from ``map`` to ``region_scores``, ``area``, ``verdict``, ``region`` and
    ``score``, see ``write_standalone``. They judge as ``Judge`` does, in float32.

    A map with a value that is not finite, inside or outside the regions, was not inspected: its
    scores are NaN, its verdict is ERROR, and no region decides.

    Args:
        graph: to which they are added
        limits: of the R regions
        labels: uint8 [h, w], 0 where nothing is inspected, r in the r-th region; None for one
            region that is the whole map
    """
    count = len(limits)
    ok_below = np.array([limit.ok_below.value for limit in limits], np.float32)
    ng_above = np.array([limit.ng_above.value for limit in limits], np.float32)

    # "Less" is false of NaN everywhere. "Greater" is true of it in OpenVINO, so it is not used.
    magnitude = graph.add("Abs", "inspected/magnitude", "map")
    possible = graph.add("LessOrEqual", "inspected/possible", magnitude, scalar(_LARGEST))
    possible = graph.add("Cast", "inspected/counted", possible, to=TensorProto.INT32)
    every = graph.add("ReduceMin", "inspected/every", possible, axes(1, 2), keepdims=0)
    inspected = graph.add("Cast", "inspected", every, to=TensorProto.BOOL)
    by_region = graph.add("Unsqueeze", "inspected/by_region", inspected, axes(1))

    values = graph.add("Unsqueeze", "regions/map", "map", axes(1))
    if labels is not None:
        masks = labels == np.arange(1, count + 1)[:, None, None]
        values = graph.add("Where", "regions/values", masks, values, scalar(-_LARGEST))
    maxima = graph.add("ReduceMax", "regions/maxima", values, axes(2, 3), keepdims=0)
    graph.add("Where", "region_scores", by_region, maxima, scalar(math.nan))

    above = graph.add("Less", "area/above", ok_below[:, None, None], values)
    above = graph.add("Cast", "area/counted", above, to=TensorProto.INT32)
    area = graph.add("ReduceSum", "area/sum", above, axes(2, 3), keepdims=0)
    graph.add("Cast", "area", area, to=TensorProto.INT64)

    code = {name: np.array(number, np.int32) for number, name in enumerate(VERDICTS)}
    good = graph.add("LessOrEqual", "verdict/ok", maxima, ok_below)
    bad = graph.add("Less", "verdict/ng", ng_above, maxima)
    told = graph.add("Where", "verdict/not_ok", bad, code["NG"], code["REVIEW"])
    told = graph.add("Where", "verdict/by_region", good, code["OK"], told)
    worst = graph.add("ReduceMax", "verdict/worst", told, axes(1), keepdims=1)
    verdict = graph.add("Squeeze", "verdict/of_frame", worst, axes(1))
    graph.add("Where", "verdict", inspected, verdict, code["ERROR"])

    # Of the regions with the worst verdict, the largest multiple of the OK limit. Of the others it
    # is 0: less, since they are only there if the worst one is above its limit.
    has_worst = graph.add("Equal", "region/has_worst", told, worst)
    factor = graph.add("Where", "region/factor", has_worst, 1 / ok_below, scalar(0))
    relative = graph.add("Mul", "region/relative", maxima, factor)
    largest = graph.add("ReduceMax", "region/largest", relative, axes(1), keepdims=1)
    # The first of equals, which "ArgMax" does not promise everywhere; a valid index for NaN too.
    equal = graph.add("LessOrEqual", "region/equal", largest, relative)
    indices = np.arange(count, dtype=np.int32)
    index = graph.add("Where", "region/candidates", equal, indices, indices[-1:])
    index = graph.add("ReduceMin", "region/index", index, axes(1), keepdims=1)
    region = graph.add("Squeeze", "region/of_frame", index, axes(1))
    graph.add("Where", "region", inspected, region, np.array(-1, np.int32))

    score = graph.add("GatherElements", "score/deciding", maxima, index, axis=1)
    score = graph.add("Squeeze", "score/of_frame", score, axes(1))
    graph.add("Where", "score", inspected, score, scalar(math.nan))
