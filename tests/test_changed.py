"""Which tests a changed file has."""

from __future__ import annotations

import pytest

from support.changed import FOLDERS, TESTS, folder_of
from support.checkout import ROOT


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("kernels/gpu/cosine_map.py", "tests/kernels"),
        ("csrc/cosine_map.simd.cpp", "tests/kernels"),
        ("rdx_fast/station/cameras/opencv.py", "tests/station"),
        ("rdx_fast/detector.py", "tests/pipelines"),
        ("examples/regions.py", "tests/examples"),
        ("tests/cli/test_cli.py", "tests/cli/test_cli.py"),
        ("tests/support/kept.py", None),
        ("LICENSE", None),
    ],
)
def test_folder_of_a_file(file: str, wanted: str | None) -> None:
    assert folder_of(file) == wanted


def test_folders_exist() -> None:
    assert {*FOLDERS} >= {*TESTS.values()}
    assert [name for name in FOLDERS if not (ROOT / "tests" / name).is_dir()] == []
