"""What the page's template shows, computed from a scored set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rdx_fast.evaluation import Evaluation, Figures, ScoredSet, evaluate_scored
from rdx_fast.evaluation.curves import FPR_LIMIT
from rdx_fast.evaluation.intervals import Z, aupro_interval, auroc_interval
from rdx_fast.evaluation.metrics import roc_points
from rdx_fast.evaluation.pro import Overlaps, overlaps_by_image
from rdx_fast.report import charts
from rdx_fast.report.facts import Table
from rdx_fast.report.gallery import GALLERIES, arranged
from rdx_fast.report.limits import VERDICTS, Limits
from rdx_fast.report.shown import Scores, rounded, spanned

_STEPS = 200  # of a slider, at least
_FIGURES = {
    "image AUROC": "image_auroc",
    "image AP": "image_ap",
    "pixel AUROC": "pixel_auroc",
    "AUPRO": "aupro",
}
_PERCENTILES = (50, 95, 99)


def content(
    scored: ScoredSet, limits: Limits, pictured: Sequence[int], gallery: int
) -> dict[str, Any]:
    """The variables of the template.

    Args:
        scored: the scored test set, with at least one good image
        limits: the limits in force
        pictured: indices of the images that have pictures
        gallery: images in each gallery at most
    """
    labels = scored.labels
    good, defective = int((~labels).sum()), int(labels.sum())
    evaluation = evaluate_scored(scored) if defective else None
    overlaps = None if scored.pixel_figures[0] is None else overlaps_by_image(scored)
    scores = Scores.of(scored, None if overlaps is None else overlaps.curve())
    slider = _slider(scores, limits)
    verdicts = [v for v in VERDICTS if v != "REVIEW" or limits.are_two]
    places = arranged(scored, limits, pictured, gallery)
    galleries = {
        key: title
        for key, title in GALLERIES.items()
        if (key != "escapes" or defective) and (key != "review" or limits.are_two)
    }
    shown = scores.shown(limits)
    for key, of in _gallery_totals(scores, limits).items():
        shown[f"gallery.{key}"] = f"{len(places[key])} of {of}"
    return {
        "scored": scored,
        "limits": limits,
        "good": good,
        "defective": defective,
        "missing": _missing(scored, evaluation),
        "shown": shown,
        "tiles": _tiles(scored, evaluation, overlaps),
        "slider": slider,
        "verdicts": verdicts,
        "kinds": [("good", good), ("defective", defective), ("all", good + defective)]
        if defective
        else [("good", good)],
        "types": [] if evaluation is None else _types(scores, evaluation),
        "figure_names": list(_FIGURES),
        "fpr_limit": FPR_LIMIT,
        "regions": _regions(scored, scores),
        **_charts(scores, limits, (slider["low"], slider["high"]), _score_name(scored)),
        "galleries": galleries if pictured else {},
        "gallery": gallery,
        "arranged": places,
        "verdict_of": lambda i: VERDICTS[limits.verdicts(scored.scores[i])],
        "score_of": lambda i: _score_of(scored, i, scores.digits),
        "latency": _latency(scored),
        "data": _data(scores, limits, gallery),
    }


def _missing(scored: ScoredSet, evaluation: Evaluation | None) -> list[str]:
    """What cannot be computed, and why."""
    found = []
    if evaluation is None:
        found.append(
            "The data set has no defective images: this report has no escapes, AUROC, AUPRO, "
            "curves or types of defects."
        )
    elif not scored.maps:
        found.append(
            "The data set has no masks of its defects: this report has no AUPRO, pixel AUROC, PRO "
            "curve or outlines of defects."
        )
    elif evaluation.overall.aupro is None:
        found.append(
            "No mask marks half of a pixel of the anomaly map, since all defects are smaller: this "
            "report has no AUPRO, pixel AUROC or PRO curve."
        )
    if scored.types_left_out:
        found.append(
            f"No image can be used of these types of defects: {', '.join(scored.types_left_out)}."
        )
    return found


def _tiles(
    scored: ScoredSet, evaluation: Evaluation | None, overlaps: Overlaps | None
) -> list[dict[str, str]]:
    """The figures that no limit changes."""
    tiles = []
    if evaluation is not None:
        overall = evaluation.overall
        interval = auroc_interval(overall.image_auroc, overall.good, overall.defective)
        meaning = "chance that a defective part scores above a good one"
        tiles.append(_tile("AUROC", _figure(overall.image_auroc), meaning, spanned(interval)))
        if overall.aupro is not None and overlaps is not None:
            interval = aupro_interval(overlaps, scored.labels, FPR_LIMIT)
            meaning = f"of the defects' areas found, mean up to {FPR_LIMIT:.0%} of false pixels"
            tiles.append(_tile("AUPRO", _figure(overall.aupro), meaning, spanned(interval)))
    if "total" in scored.timings_ms:
        total = scored.timings_ms["total"]
        tiles.append(
            {
                "title": "Latency",
                "number": _milliseconds(np.percentile(total, 50)),
                "meaning": "for a frame, median",
                "interval": f"99% of frames within {_milliseconds(np.percentile(total, 99))}",
            }
        )
    return tiles


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def _figure(value: float) -> str:
    """As ``evaluate`` prints it."""
    return f"{100 * value:.2f}%"


def _tile(title: str, number: str, meaning: str, interval: str) -> dict[str, str]:
    interval = f"95% interval {interval}"
    return {"title": title, "number": number, "meaning": meaning, "interval": interval}


def _types(scores: Scores, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Rows of the table by type, and one for all; ``key`` names the counts in ``shown``."""

    def cells(figures: Figures) -> list[str]:
        values = [getattr(figures, name) for name in _FIGURES.values()]
        return ["-" if value is None else _figure(value) for value in values]

    rows = [
        {
            "name": name.replace("_", " "),
            "count": evaluation.by_type[name].defective,
            "key": f"type.{k}",
            "rate": f"type.{k}.rate",
            "figures": cells(evaluation.by_type[name]),
        }
        for k, name in enumerate(scores.types)
    ]
    overall = evaluation.overall
    return [
        *rows,
        {
            "name": "all",
            "count": overall.defective,
            "key": "confusion.defective",
            "rate": "detected.rate",
            "figures": cells(overall),
        },
    ]


def _regions(scored: ScoredSet, scores: Scores) -> dict[str, str] | None:
    """Names of several regions, and where their limits of NG are; None with one region."""
    if scored.region_of is None:
        return None
    ng = rounded(scored.ng_above or scored.threshold, scores.digits)
    return {"names": ", ".join(scored.regions), "ng": ng}


def _score_name(scored: ScoredSet) -> str:
    return "score" if scored.region_of is None else "score, relative to its region's limit"


def _score_of(scored: ScoredSet, i: int, digits: int) -> str:
    score = rounded(float(scored.scores[i]), digits)
    return (
        score if scored.region_of is None else f"{score} in {scored.regions[scored.region_of[i]]}"
    )


def _charts(
    scores: Scores, limits: Limits, span: tuple[float, float], name: str
) -> dict[str, str | None]:
    at = limits.by_name
    roc = pro = None
    if scores.labels.any():
        above = {name: scores.scores > limit for name, limit in at.items()}
        points = {
            name: (float(of[~scores.labels].mean()), float(of[scores.labels].mean()))
            for name, of in above.items()
        }
        roc = charts.roc(roc_points(scores.labels, scores.scores), points)
    if scores.pro is not None:
        points = {name: scores.pro_at(limit) for name, limit in at.items()}
        points = {name: (min(fpr, FPR_LIMIT), overlap) for name, (fpr, overlap) in points.items()}
        pro = charts.pro(scores.pro, points, FPR_LIMIT)
    return {
        "histogram": charts.histogram(scores.scores, scores.labels, limits, span, name),
        "roc": roc,
        "pro": pro,
    }


def _slider(scores: Scores, limits: Limits) -> dict[str, float]:
    """Ends and step of the sliders: all scores lie between the ends."""
    low = min(float(scores.scores.min()), limits.ok_below)
    high = max(float(scores.scores.max()), limits.ng_above)
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-3 * high) / _STEPS))
    first, last = math.ceil(low / step) - 1, math.floor(high / step) + 1
    digits = max(0, -round(math.log10(step)))
    low, high = (round(k * step, digits) for k in (max(first, 0), last))
    return {"low": low, "high": high, "step": round(step, digits)}


def _gallery_totals(scores: Scores, limits: Limits) -> dict[str, int]:
    confusion = limits.confusion(scores.scores, scores.labels)
    return {
        "escapes": int(confusion[1, 0]),
        "false_rejects": int(confusion[0, 2]),
        "review": int(confusion[:, 1].sum()),
    }


def _latency(scored: ScoredSet) -> Table | None:
    timings: Mapping[str, np.ndarray] = scored.timings_ms
    if not timings:
        return None
    stages = [*(name for name in timings if name != "total"), "total"]
    rows = [
        (name, *(f"{p:.2f}" for p in np.percentile(timings[name], _PERCENTILES))) for name in stages
    ]
    columns = ("stage", *(f"p{p}, ms" for p in _PERCENTILES))
    note = (
        f"Wall time of scoring each of the {len(scored.images)} images, one at a time, while this "
        f"report was made; reading files is not included."
    )
    return Table("Latency", rows, columns, note, numbers=True)


def _data(scores: Scores, limits: Limits, gallery: int) -> dict[str, Any]:
    """What the page's script computes from. The shortest texts of float32 values are exact."""

    def short(values: np.ndarray) -> list[float]:
        return [float(str(value)) for value in values]

    pro = scores.pro
    return {
        "scores": short(scores.scores),
        "types": scores.type_of.tolist(),
        "typeCount": len(scores.types),
        "limits": {"ok": limits.ok_below, "ng": limits.ng_above},
        "digits": scores.digits,
        "gallery": gallery,
        "z": Z,
        "fprLimit": FPR_LIMIT,
        # Ascending, to be interpolated.
        "pro": pro
        and {
            "values": short(pro.values[::-1]),
            "fpr": pro.fpr[::-1].tolist(),
            "overlap": pro.overlap[::-1].tolist(),
        },
    }
