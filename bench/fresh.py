"""Start-up times of a bundle, measured in a fresh process.

That process runs this file as a script, which prints JSON:
``fresh.py BUNDLE HEIGHT WIDTH PRECISION BACKEND THREADS``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from time import perf_counter


def start(
    bundle: Path, height: int, width: int, precision: str, backend: str, threads: int | None
) -> dict[str, float]:
    """Measure the start of a bundle in a fresh process.

    Args:
        bundle: folder of the bundle
        height: of the frame in pixels
        width: of the frame in pixels
        precision: executed precision
        backend: see ``open_engine``
        threads: CPU threads, None for the engine's choice

    Returns:
        ``import_s`` and ``open_s`` in seconds, ``first_call_ms`` and ``second_call_ms`` in
        milliseconds, and ``peak_mb``, the peak memory in MB

    Raises:
        RuntimeError: the process failed
    """
    import rdx_fast

    arguments = [bundle, height, width, precision, backend, threads or 0]
    # By path, so that nothing of the package is imported before the timing starts.
    command = [sys.executable, "-P", __file__, *map(str, arguments)]
    found_in = str(Path(rdx_fast.__file__).parent.parent)
    paths = os.pathsep.join(p for p in (found_in, os.environ.get("PYTHONPATH")) if p)
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"opening {bundle} in a fresh process failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def peak_mb() -> float:
    # getrusage would count the parent's memory from before exec.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def _main() -> None:
    bundle, height, width, precision, backend, threads = sys.argv[1:]
    times = [perf_counter()]
    import numpy as np

    from rdx_fast import Detector

    times.append(perf_counter())
    frame = np.resize(np.arange(256, dtype=np.uint8), (int(height), int(width), 3))
    begin = perf_counter()
    detector = Detector(
        bundle, backend, int(threads) or None, precision=precision, check_frames=False
    )
    opened = perf_counter() - begin
    calls = []
    for _ in range(2):
        begin = perf_counter()
        detector.score(frame)
        calls.append(1e3 * (perf_counter() - begin))
    print(
        json.dumps(
            {
                "import_s": round(times[1] - times[0], 3),
                "open_s": round(opened, 3),
                "first_call_ms": round(calls[0], 3),
                "second_call_ms": round(calls[1], 3),
                "peak_mb": round(peak_mb()),
            }
        )
    )


if __name__ == "__main__":
    _main()
