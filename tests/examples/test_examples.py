"""The programs in ``examples``, run by the command that their docstrings give."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT

from rdx_fast import Detector, Result
from rdx_fast.bundle import Bundle
from rdx_fast.images import list_images, read_image

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PARTS = 16  # of the test set: eight good ones, then eight with a notch


Given = Mapping[str, object]


class Done(NamedTuple):
    lines: list[str]
    errors: list[str]


def command_of(example: Path) -> list[str]:
    """The one command of the docstring."""
    docstring = ast.get_docstring(ast.parse(example.read_text()))
    assert docstring is not None
    (command,) = (line for line in docstring.splitlines() if line.startswith("python "))
    return shlex.split(command)


def run(name: str, folder: Path, given: Given, *options: object, code: int = 0) -> Done:
    """Run an example in ``folder``: its command with these in place of words, and more options, of
    which the last counts."""
    interpreter, script, *words = command_of(ROOT / "examples" / name)
    assert (interpreter, script) == ("python", f"examples/{name}")
    assert given.keys() <= set(words)
    words = [str(given.get(word, word)) for word in words]
    # Where ``my_plc`` lies.
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *words, *map(str, options)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return Done(done.stdout.splitlines(), done.stderr.splitlines())


@pytest.fixture(scope="module")
def expected(bundle: Bundle, parts: Path) -> list[Result]:
    """What the Detector itself says of the parts, in order."""
    with Detector(bundle.path) as detector:
        results = [detector.score(read_image(path)) for path in list_images(parts / "test")]
    assert len(results) == PARTS
    assert {verdict(result) for result in results} == {"OK", "NG"}
    return results


def verdict(result: Result) -> str:
    return "NG" if result.is_anomalous[0] else "OK"


# All of them


def test_every_example_is_tested_and_listed() -> None:
    assert [path.name for path in EXAMPLES if f"test_{path.stem}" not in globals()] == []
    table = (ROOT / "examples" / "README.md").read_text()
    listed = re.findall(r"^\| \[(\w+\.py)\]\(\1\)", table, re.MULTILINE)
    assert sorted(listed) == [path.name for path in EXAMPLES]
    for path in EXAMPLES:
        assert f"`{shlex.join(command_of(path))}`" in table


# Each


MY_PLC = """
import sys
from contextlib import contextmanager

class Plc:
    def parts(self):
        return range(16)
    def accept(self, part_id):
        print("accept", part_id, file=sys.stderr)
    def reject(self, part_id):
        print("reject", part_id, file=sys.stderr)

@contextmanager
def connect():
    yield Plc()
"""


def test_controller(bundle: Bundle, parts: Path, expected: list[Result], tmp_path: Path) -> None:
    assert len((ROOT / "examples" / "controller.py").read_text().splitlines()) <= 30
    (tmp_path / "my_plc.py").write_text(MY_PLC)
    done = run("controller.py", tmp_path, {"part.rdx": bundle.path, "frames": parts / "test"})
    # Its deadline is a real one: on a busy machine a part may be late, and is rejected.
    told = [line.split()[2] for line in done.lines]
    assert {"OK", "NG"} <= set(told)
    for result, found in zip(told, expected, strict=True):
        assert result in (verdict(found), "LATE")
    acts = ["accept" if result == "OK" else "reject" for result in told]
    assert done.errors == [f"{act} {part}" for part, act in enumerate(acts)]
