"""TensorRT's Python bindings, without the gigabytes of libraries that they are for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from support.kept import kept_as

# The only place that names these versions. They are not in constraints.txt: installed beside
# TensorRT for RTX they would be taken for a TensorRT that runs.
BINDINGS = {
    "tensorrt 10": ("tensorrt-cu12-bindings", "10.13.3.9.post1"),
    "tensorrt 11": ("tensorrt-cu13-bindings", "11.4.0.106"),
}
_SOURCE = Path(__file__).with_name("stub_tensorrt.c")


def bindings(store: Path, which: str) -> Path:
    """The folder with the bindings of a key of ``BINDINGS``, from the package index."""
    package, version = BINDINGS[which]
    return kept_as(store, package, version, partial(_install, f"{package}=={version}"))


def stub_libraries(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Compile libraries under the given names: all empty but the first, which has TensorRT's
    functions."""
    if shutil.which("cc") is None:
        _cannot("there is no C compiler")
    for name, source in zip(names, (_SOURCE, *(["/dev/null"] * len(names))), strict=False):
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name)]
        subprocess.run([*command, "-x", "c", str(source)], check=True)
    return [folder / name for name in names]


def _install(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--quiet"]
    done = subprocess.run(
        [*command, "--target", str(folder), requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(folder)
        _cannot(f"{requirement} cannot be installed: {done.stderr.strip()[-500:]}")


def _cannot(reason: str) -> None:
    if os.environ.get("RDX_FAST_NATIVE") == "1":  # in CI, which has all that is needed
        pytest.fail(reason)
    pytest.skip(reason)
