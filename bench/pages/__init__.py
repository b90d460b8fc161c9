"""Tables of README and docs, from ``bench/results``: ``python -m rdx_fast.bench.pages``.

A table stands between ``<!-- figures: NAME -->`` and ``<!-- end of figures -->`` and is generated
from the newest rows of its benchmark, so that no figure is copied by hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rdx_fast.bench.pages import (
    drift,
    gpu,
    peers,
    performance,
    plc,
    precision,
    promise,
    recipe,
    training,
    weekly,
)
from rdx_fast.bench.pages.rows import Row, read_rows

RESULTS = Path("bench/results")
PAGES = (
    Path("README.md"),
    Path("docs/measured/performance.md"),
    Path("docs/measured/precision.md"),
    Path("docs/measured/accuracy.md"),
    Path("docs/measured/plc.md"),
    Path("docs/measured/weekly.md"),
    Path("docs/explanation/drift.md"),
    Path("docs/explanation/kernels.md"),
    Path("docs/explanation/promise.md"),
    Path("docs/how-to/evaluate.md"),
    Path("docs/reference/gpu.md"),
    Path("docs/reference/plc.md"),
)
_BLOCK = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
TABLES = {
    **peers.TABLES,
    **performance.TABLES,
    **precision.TABLES,
    **plc.TABLES,
    **training.TABLES,
    **gpu.TABLES,
    **drift.TABLES,
    **promise.TABLES,
    **recipe.TABLES,
    **weekly.TABLES,
}

__all__ = ["PAGES", "RESULTS", "TABLES", "read_rows", "rewritten"]


def rewritten(page: str, rows: Sequence[Row]) -> str:
    """The page with its tables generated again. Raises ``KeyError`` for an unknown table,
    ``ValueError`` for one without rows."""

    def block(match: re.Match[str]) -> str:
        return match[1] + TABLES[match[2]](rows) + match[3]

    return _BLOCK.sub(block, page)
