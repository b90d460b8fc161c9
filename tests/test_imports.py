"""What is imported at run time, how fast, and from where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.checkout import ROOT


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_scoring_needs_no_torch(bundle) -> None:
    code = """
import sys
import numpy as np
from rdx_fast import Detector
with Detector(sys.argv[1]) as detector:
    detector.score(np.resize(np.arange(48, 176, dtype=np.uint8), (2, 30, 40, 3)))
heavy = {"torch", "onnx", "nncf", "scipy", "sklearn", "rich", "typer"} & sys.modules.keys()
print(sorted(heavy))
"""
    assert python(code, str(bundle.path)) == "[]"


def test_a_gpu_controller_needs_no_torch() -> None:
    code = """
import sys
import rdx_fast.cli.plan
from rdx_fast.engines.tensorrt.build import prepare_plan
from rdx_fast.engines.tensorrt.engine import TensorRTEngine
from rdx_fast.kernels.gpu.library import KernelLibrary
print(sorted({"torch", "triton", "onnx", "openvino", "tensorrt_rtx", "cuda"} & sys.modules.keys()))
"""
    assert python(code) == "[]"


def test_evaluation_needs_no_torch(bundle, parts) -> None:
    code = """
import sys
from pathlib import Path
import rdx_fast.cli
from rdx_fast import Detector
from rdx_fast.evaluation import evaluate
with Detector(sys.argv[1]) as detector:
    evaluate(detector, Path(sys.argv[2]))
print(sorted({"torch", "onnx", "nncf"} & sys.modules.keys()))
"""
    assert python(code, str(bundle.path), str(parts)) == "[]"


def test_a_standalone_file_needs_no_torch(bundle, tmp_path) -> None:
    code = """
import sys
from pathlib import Path
from rdx_fast import open_bundle
from rdx_fast.export.standalone import write_standalone
write_standalone(open_bundle(sys.argv[1]), Path(sys.argv[2]), frame_size=(80, 112))
print(sorted({"torch", "nncf", "onnxruntime"} & sys.modules.keys()))
"""
    assert python(code, str(bundle.path), str(tmp_path / "part.onnx")) == "[]"


def test_import_takes_at_most_300_ms() -> None:
    code = """
import time
begin = time.process_time()
import rdx_fast
print(time.process_time() - begin)
"""
    # Of the processor's time, and the best of several: what else the machine does counts little.
    assert min(float(python(code)) for _ in range(5)) <= 0.3


def test_the_checkout_is_importable() -> None:
    """The top-level folders are part of the package by links."""
    for name in ("kernels", "export", "bench"):
        assert (ROOT / "rdx_fast" / name).resolve() == ROOT / name
    code = "import rdx_fast.kernels as k, rdx_fast.bench, rdx_fast.export; print(k.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()) == ROOT / "rdx_fast" / "kernels" / "__init__.py"
