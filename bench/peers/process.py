"""A peer's process, seen from the run that conducts them."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WORKER = HERE / "worker.py"
# Packages whose versions say what a peer is made of.
PACKAGES = ("anomalib", "numpy", "onnxruntime", "openvino", "rdx_fast", "scipy", "torch")


class Peer:
    """One worker. ``kind``: a name of ``worker.PEERS``; ``model``: what its module opens;
    ``precision``: what it is asked to execute, None where it has no choice; ``executed``: what the
    worker says that it executes.

    Raises ``FileNotFoundError`` if the environment has not been made, and ``RuntimeError``, with
    its last words, if the worker ends before its time.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        environment: Path,
        model: Path,
        threads: int,
        log: Path,
        precision: str | None = None,
    ) -> None:
        self.name = name
        self.peak_mb = 0.0
        self._log = log
        python = python_of(environment)
        self.versions = versions(python)
        asked = [] if precision is None else [precision]
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [python, WORKER, kind, model.absolute(), str(threads), *asked],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # Where a package may leave a cache of its own.
                cwd=log.parent,
            )
        self.executed: str = self._answer()["executed"]

    def load(self, frames: Path) -> None:
        self._ask({"frames": str(frames.absolute())})

    def score(self, indices: list[int]) -> dict[str, Any]:
        """``ms``, ``scores``, ``stages`` of these frames, one after the other."""
        return self._ask({"score": indices})

    def save_map(self, file: Path) -> None:
        """The map of the last frame scored, as ``.npy``."""
        self._ask({"maps": str(file.absolute())})

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # what it died of is told below
            print(json.dumps(command), file=self._process.stdin, flush=True)
        answer = self._answer()
        self.peak_mb = answer["peak_mb"]
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._log.read_text(encoding="utf-8")[-2000:]
            raise RuntimeError(f"{self.name} ended with code {self._process.wait()}:\n{said}")
        return dict(json.loads(line))


def python_of(environment: Path) -> Path:
    python = environment / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(f"{python} is not there: run  bash bench/peers/setup.sh  first")
    return python.absolute()


def versions(python: Path) -> dict[str, str]:
    """Of ``PACKAGES``, those that an environment has."""
    code = (
        "import json, sys\nfrom importlib.metadata import distributions\n"
        "print(json.dumps({d.name: d.version for d in distributions() if d.name in sys.argv}))"
    )
    command = [str(python), "-c", code, *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(sorted(json.loads(done.stdout).items()))
