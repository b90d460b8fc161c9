from __future__ import annotations

import pytest

from rdx_fast.bench import pages
from support.checkout import ROOT


def test_figures_in_the_pages_are_those_of_the_results() -> None:
    rows = pages.read_rows(ROOT / pages.RESULTS)
    used = set()
    for page in pages.PAGES:
        text = (ROOT / page).read_text()
        used |= {match[2] for match in pages._BLOCK.finditer(text)}
        advice = "run  python -m rdx_fast.bench.pages"
        assert pages.rewritten(text, rows) == text, f"{page} is not current: {advice}"
    assert used == pages.TABLES.keys()


def test_figures_come_from_the_newest_rows() -> None:
    page = "<!-- figures: soak -->\nold\n<!-- end of figures -->\nrest"
    part = {"call_ms": {"p50": 2.0}, "memory_mb": 5.0}
    row = {
        "bench": "soak",
        "time": "1",
        "cpu": "a CPU",
        "commit": "abc",
        "versions": {},
        "backbone": "resnet18",
        "precision": "fp32",
        "rate": 20,
        "minutes": 1,
        "calls": 1200,
        "latency_last_to_first": 1.0,
        "parts": [part, part],
    }
    newer = row | {"calls": 7}
    made = pages.rewritten(page, [row, newer])
    assert made.startswith("<!-- figures: soak -->\n|")
    assert made.endswith("<!-- end of figures -->\nrest")
    assert "| 7 |" in made
    assert "1200" not in made
    with pytest.raises(ValueError, match="no results of 'soak'"):
        pages.rewritten(page, [])
    with pytest.raises(KeyError):
        pages.rewritten(page.replace("soak", "unknown"), [row])


def test_published_rows_say_where_they_come_from() -> None:
    for row in pages.read_rows(ROOT / pages.RESULTS):
        assert row.keys() >= {"bench", "time", "commit", "versions"}, row
        assert "cpu" in row or "gpu" in row
        if row["bench"] in ("bench", "growth", "overhead", "soak", "latency"):
            assert len(row["bundle_sha256"]) == 64
