"""The page of a report: one file of HTML that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from rdx_fast.evaluation import ScoredSet
from rdx_fast.report.content import content
from rdx_fast.report.facts import Row, Table
from rdx_fast.report.gallery import Card
from rdx_fast.report.limits import Limits


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows.

    Attributes:
        header: what was inspected by what, where and when
        scored: the scored test set; images, masks and defective images may be missing
        limits: the limits in force
        facts: tables about the bundle
        cards: the images with pictures
        gallery: images in each gallery at most
    """

    header: Sequence[Row]
    scored: ScoredSet
    limits: Limits
    facts: Sequence[Table] = ()
    cards: Sequence[Card] = ()
    gallery: int = 6


def render(report: Report) -> str:
    """The page, as HTML. Texts are escaped, and other scripts and all requests are forbidden."""
    environment = Environment(
        loader=PackageLoader("rdx_fast.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cards = {card.index: card for card in report.cards}
    assert environment.loader is not None
    style, script = (
        environment.loader.get_source(environment, name)[0] for name in ("report.css", "report.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        content(report.scored, report.limits, sorted(cards), report.gallery),
        header=report.header,
        facts=report.facts,
        cards=cards,
        style=style,
        script=script,
        script_hash=f"sha256-{digest}",
    )


def write_page(page: str, path: Path) -> None:
    """Write a page; an older file of the name is replaced when all is written.

    Args:
        page: the HTML
        path: file to write; its folder is created
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            # A file name need not be text.
            stream.write(page.encode(errors="backslashreplace"))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
