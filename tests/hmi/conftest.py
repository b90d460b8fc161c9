"""Fixtures of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.page import Page, open_page


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return open_page(tmp_path)
