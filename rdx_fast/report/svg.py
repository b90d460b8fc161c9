"""Figures of Matplotlib as SVG inside a page: in its colours, with parts that its script moves."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The page's CSS has a variable of each name, which this colour stands for.
COLOURS = {
    "ink": "#1f2937",
    "muted": "#5b6776",
    "grid": "#d8dee6",
    "good": "#2f6fb3",
    "defective": "#c2561a",
    "ok": "#1d7a3e",
    "ng": "#b3261e",
}
_POINTS = 72  # per inch: a figure's pixels are then the SVG's units
_SIZE = (400 / _POINTS, 300 / _POINTS)
_AXES = (0.15, 0.155, 0.82, 0.825)  # left, bottom, width and height, as shares of the figure
_STYLE: dict[Any, Any] = {
    "font.size": 12,
    "svg.fonttype": "none",
    "axes.edgecolor": COLOURS["muted"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": COLOURS["ink"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": COLOURS["grid"],
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
}
_NAMESPACE = re.compile(r"\{[^}]*\}")


class Moved(NamedTuple):
    """A part of a figure that the page's script moves, where it was drawn."""

    x: float
    y: float


def new_axes() -> tuple[Figure, Axes]:
    """An empty figure in the style of the report."""
    with rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, dpi=_POINTS)
        return figure, figure.add_axes(_AXES)


def to_svg(
    figure: Figure,
    axes: Axes,
    name: str,
    label: str,
    moved: Mapping[str, Moved],
    titles: Mapping[str, str],
) -> str:
    """The figure as an ``<svg>`` element.

    Args:
        figure: the figure
        axes: its axes, both linear
        name: of the figure, unique in the page
        label: what it shows, for a screen reader
        moved: by ``gid``, parts that move. The element gets ``data-moves``, its ``gid``; ``data-x``
            and ``data-y``, where it was drawn; and ``data-per-x`` and ``data-per-y``, SVG units for
            each unit of the axes
        titles: by ``gid``, a tooltip of the part
    """
    stream = io.StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": name}):  # so that ids differ between figures
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    svg = ElementTree.fromstring(stream.getvalue())  # noqa: S314 - Matplotlib wrote it just now
    root = _without_page(svg)
    root.set("role", "img")
    root.set("aria-label", label)
    (left, top), (right, bottom) = (axes.transData.transform(p) for p in ((0, 0), (1, 1)))
    values = " ".join(value for element in root.iter() for value in element.attrib.values())
    referenced = set(re.findall(r"#([\w-]+)", values))
    for element in root.iter():
        gid = element.get("id", "")
        if gid not in referenced:
            element.attrib.pop("id", None)
        if gid in moved:
            numbers = (*moved[gid], right - left, top - bottom)
            element.set("data-moves", gid)
            for key, value in zip(("x", "y", "per-x", "per-y"), numbers, strict=True):
                element.set(f"data-{key}", repr(float(value)))
        if gid in titles:
            ElementTree.SubElement(element, "title").text = titles[gid]
    text = ElementTree.tostring(root, encoding="unicode")
    for colour, value in COLOURS.items():
        text = text.replace(value, f"var(--{colour}, {value})")
    return text


def _without_page(root: ElementTree.Element) -> ElementTree.Element:
    """Without what is of a file of its own: size, namespaces, and a style, which would be the
    page's."""
    for key in ("width", "height", "version"):
        del root.attrib[key]
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}style", "}metadata")):
                parent.remove(child)
    for element in root.iter():
        element.tag = _NAMESPACE.sub("", element.tag)
        plain = {_NAMESPACE.sub("", key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update(plain)
    return root
