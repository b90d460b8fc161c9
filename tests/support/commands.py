"""The command line: as a user starts it, or in this process, which is quicker."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytest

from rdx_fast.cli import main

RDX_FAST = Path(sys.executable).with_name("rdx-fast")
WIDTH = {"COLUMNS": "120"}  # whatever terminal the tests run in


class Done(NamedTuple):
    stdout: str
    stderr: str


def start(*arguments: object, code: int = 0) -> Done:
    """As a process of its own: the installed command, and what it imports."""
    command = [str(RDX_FAST), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | WIDTH
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return Done(done.stdout, done.stderr)


def run(*arguments: object, code: int = 0) -> Done:
    """The same entry point in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, WIDTH),
        patch.object(sys, "argv", ["rdx-fast", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert (ended.value.code or 0) == code, out.getvalue() + err.getvalue()
    return Done(out.getvalue(), err.getvalue())


def unboxed(text: str) -> str:
    """A message without the frame and the line breaks of a terminal."""
    return " ".join(text.replace("│", " ").split())
