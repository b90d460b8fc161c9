"""The charts of a report."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rdx_fast.evaluation.pro import ProCurve
from rdx_fast.report.limits import Limits
from rdx_fast.report.svg import COLOURS, Moved, new_axes, to_svg

BARS = 36

Floats = NDArray[np.float64]


def histogram(
    scores: NDArray[np.float32],
    labels: NDArray[np.bool_],
    limits: Limits,
    span: tuple[float, float],
    name: str,
) -> str:
    """How many good and how many defective images have each score, with the limits.

    Args:
        scores: float32 [n]
        labels: bool [n], True for defective
        limits: the limits to draw
        span: least and greatest score that is shown
        name: what a score is

    Returns:
        The ``<svg>`` element; its parts ``limit-ok`` and ``limit-ng`` move.
    """
    figure, axes = new_axes()
    edges = np.linspace(*span, BARS + 1)
    titles = {}
    for kind, chosen in (("good", ~labels), ("defective", labels)):
        counts, _ = np.histogram(scores[chosen], edges)
        some = np.flatnonzero(counts)
        color = COLOURS[kind]
        bars = axes.bar(edges[some], counts[some], np.diff(edges)[some], align="edge", color=color)
        for bar, i in zip(bars, some, strict=True):
            bar.set(gid=f"{kind}-{i}", alpha=0.7)
            between = f"score {edges[i]:.4g} to {edges[i + 1]:.4g}"
            titles[f"{kind}-{i}"] = f"{between}: {counts[i]} {kind}"
    moved = {}
    for kind, limit in limits.by_name.items():
        line = axes.axvline(limit, color=COLOURS[kind], linestyle="--" if kind == "ok" else "-")
        line.set(gid=f"limit-{kind}", clip_on=False)
        moved[f"limit-{kind}"] = Moved(limit, 0)
    axes.set(xlim=span, xlabel=name, ylabel="images")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    label = "Histogram of the scores of good and defective images, with the limits"
    return to_svg(figure, axes, "histogram", label, moved, titles)


def roc(points: tuple[Floats, Floats], at: dict[str, tuple[float, float]]) -> str:
    """The ROC curve of the images.

    Args:
        points: share of the good and of the defective images above a threshold, float64 [k] each
        at: the point of each limit, by "ok" and "ng"

    Returns:
        The ``<svg>`` element; its parts ``roc-ok`` and ``roc-ng`` move.
    """
    label = "ROC curve: share of defective images detected against share of good images rejected"
    names = "good images above the limit", "defective images above the limit"
    return _curve("roc", label, points, at, 1.0, names)


def pro(curve: ProCurve, at: dict[str, tuple[float, float]], fpr_limit: float) -> str:
    """The curve of the per-region overlap, up to the false-positive rate that AUPRO ends at.

    Args:
        curve: its points
        at: the point of each limit, by "ok" and "ng"
        fpr_limit: where AUPRO ends

    Returns:
        The ``<svg>`` element; its parts ``pro-ok`` and ``pro-ng`` move.
    """
    points = np.append(0, curve.fpr), np.append(0, curve.overlap)
    label = "Curve of the per-region overlap against the share of other pixels above the limit"
    names = "other pixels above the limit", "area of a defect above the limit"
    return _curve("pro", label, points, at, fpr_limit, names)


def _curve(
    name: str,
    label: str,
    points: tuple[Floats, Floats],
    at: dict[str, tuple[float, float]],
    end: float,
    names: tuple[str, str],
) -> str:
    figure, axes = new_axes()
    axes.plot(*points, color=COLOURS["ink"], linewidth=2)
    axes.fill_between(*points, color=COLOURS["muted"], alpha=0.12, linewidth=0)
    moved = {}
    for kind, point in at.items():
        (dot,) = axes.plot(*point, "o", color=COLOURS[kind], markersize=9)
        dot.set(gid=f"{name}-{kind}", clip_on=False)
        moved[f"{name}-{kind}"] = Moved(*point)
    axes.set(xlim=(0, end), ylim=(0, 1.02), xlabel=names[0], ylabel=names[1])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    return to_svg(figure, axes, name, label, moved, {})
