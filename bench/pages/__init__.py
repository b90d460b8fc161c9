"""Tables of README and docs, out of ``bench/results``: ``python -m rdx_fast.bench.pages``.

A table stands between ``<!-- figures: NAME -->`` and ``<!-- end of figures -->`` and is made anew
from the newest rows of its benchmark, so that no figure is copied by hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rdx_fast.bench.pages import accuracy, peers, performance, plc
from rdx_fast.bench.pages.rows import Row, read_rows

RESULTS = Path("bench/results")
PAGES = (
    Path("README.md"),
    Path("docs/performance.md"),
    Path("docs/kernels.md"),
    Path("docs/evaluation.md"),
    Path("docs/plc.md"),
    Path("docs/precision.md"),
)
_BLOCK = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
TABLES = peers.TABLES | performance.TABLES | accuracy.TABLES | plc.TABLES

__all__ = ["PAGES", "RESULTS", "TABLES", "read_rows", "rewritten"]


def rewritten(page: str, rows: Sequence[Row]) -> str:
    """The page with its tables made anew. Raises ``KeyError`` for a table that no one makes,
    ``ValueError`` for one without rows."""

    def block(match: re.Match[str]) -> str:
        return match[1] + TABLES[match[2]](rows) + match[3]

    return _BLOCK.sub(block, page)
