"""Guards against slow regressions that no clock is needed for: counts, each with a stored bound.

Bounds are in ``data/counts.json``: what was counted, and a little more where compilers and
libraries have a say. A count above its bound is either mended or, if it is meant, written there.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import onnx
import pytest

from rdx_fast.bench.counts import operators
from rdx_fast.bundle.bundle import Bundle
from support.checkout import ROOT
from support.exported import NETWORKS, SIZE

BOUNDS = json.loads((ROOT / "tests/data/counts.json").read_text())


@pytest.mark.parametrize(("method", "backbone"), NETWORKS)
def test_operators_and_flops(method: str, backbone: str, networks: Path) -> None:
    file = networks / f"{method}-{backbone}-fp32" / "network_fp32.onnx"
    graph = onnx.load(file, load_external_data=False).graph
    kinds = Counter(node.op_type for node in graph.node)
    _, flops = operators(file, *SIZE)
    counted = {"operators": kinds.total(), "flops": flops}
    for name, bound in BOUNDS["networks"][f"{method} {backbone}"].items():
        assert counted[name] <= bound, f"{counted}; operators: {dict(kinds)}"
    assert not kinds["BatchNormalization"], "not folded into the convolutions"
    assert not kinds["Identity"]


@pytest.mark.slow
def test_instructions_of_kernels(tmp_path: Path) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    out = tmp_path / "callgrind.out"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", sys.executable]
    calls = ROOT / "tests" / "support" / "kernel_calls.py"
    done = subprocess.run([*command, "-P", calls], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if done.stdout.split()[-1] != "avx2":
        pytest.skip(f"the bounds are for avx2, {done.stdout.split()[-1]} ran")
    listed = subprocess.run(
        ["callgrind_annotate", "--inclusive=yes", "--threshold=100", out],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pattern = re.compile(r"^ *([\d,]+) .*:rdx::(?:\(anonymous namespace\)::)?([\w:]+)\(", re.M)
    counted = {name: int(count.replace(",", "")) for count, name in pattern.findall(listed)}
    for name, bound in BOUNDS["instructions"].items():
        assert counted[name] <= bound, {n: counted[n] for n in BOUNDS["instructions"]}


def test_allocations_of_a_call(bundle: Bundle, tmp_path: Path) -> None:
    """Of 16 KiB and more, in the whole process: frames, features and maps are among them."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    library = tmp_path / "allocations.so"
    source = ROOT / "tests" / "support" / "allocations.c"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    code = """
import ctypes, sys
import numpy as np
from rdx_fast import Detector
allocations = ctypes.CDLL(sys.argv[2]).allocations
frame = np.resize(np.arange(48, 176, dtype=np.uint8), (512, 512, 3))  # as bright as the parts
with Detector(sys.argv[1], threads=1) as detector:
    for maps in (True, False):
        for _ in range(10):
            detector.score(frame, maps=maps)
        before = allocations()
        for _ in range(20):
            detector.score(frame, maps=maps)
        print((allocations() - before) / 20)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(bundle.path), str(library)],
        capture_output=True,
        text=True,
        check=False,
        env={"LD_PRELOAD": str(library), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    with_maps, without = map(float, done.stdout.split())
    assert 0 < without <= BOUNDS["allocations"]["score only"]
    assert with_maps <= BOUNDS["allocations"]["with maps"]
