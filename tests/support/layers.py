"""The package's imports: the layer of each package, and who may import what.

``python tests/support/layers.py [CHECKOUT]`` counts modules, packages and the imports between them.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LAYERS = {
    "rdx_fast": 5,  # the package's front: what users import
    "rdx_fast.cli": 7,
    "rdx_fast.doctor": 6,
    "rdx_fast.scoring": 6,
    "rdx_fast.report": 6,
    "rdx_fast.evaluation": 6,
    "rdx_fast.station": 6,
    "rdx_fast.hmi": 6,
    "rdx_fast.line": 6,
    "rdx_fast.retraining": 6,
    "rdx_fast.bench": 6,
    "rdx_fast.detector": 5,
    "rdx_fast.pipelines": 4,
    "rdx_fast.engines": 3,
    "rdx_fast.devices": 2,
    "rdx_fast.export": 5,
    "rdx_fast.postprocess": 3,
    "rdx_fast.bundle": 2,
    "rdx_fast.recipe": 2,
    "rdx_fast.limits": 1,
    "rdx_fast.preprocess": 2,
    "rdx_fast.judge": 4,
    "rdx_fast.applied_recipe": 5,
    "rdx_fast.defects": 2,
    "rdx_fast.recalibrate": 6,
    "rdx_fast.drift": 2,
    "rdx_fast.precision": 3,
    "rdx_fast.cpu": 1,
    "rdx_fast.training": 2,
    "rdx_fast.kernels": 1,
    "rdx_fast.models": 1,
    "rdx_fast.images": 1,
    "rdx_fast.deep_images": 1,
    "rdx_fast.datasets": 1,
    "rdx_fast.solar_cells": 1,
    "rdx_fast.overlay": 1,
    "rdx_fast.result": 1,
    "rdx_fast.errors": 1,
    "rdx_fast.reading": 1,
    "rdx_fast.durable": 1,
    "rdx_fast.wording": 1,
    "rdx_fast._C": 1,
}
# What every installation has, under the names that are imported.
BASE = {"dacite", "numpy", "openvino", "PIL", "rich", "scipy", "typer"}
# Optional dependencies, and the modules or packages that may import each.
OWNED = {
    "anomalib": {"rdx_fast.bench"},
    "asyncua": {"rdx_fast.station.plc.opcua"},
    "cryptography": {"rdx_fast.bundle.signature", "rdx_fast.station.plc.opcua"},
    "cuda": {"rdx_fast.kernels.gpu.driver", "rdx_fast.devices.cuda"},
    "cv2": {
        "rdx_fast.station.cameras.opencv",
        "rdx_fast.station.cameras.opencv_parameters",
        "rdx_fast.training.segment",
    },
    "executed": {"rdx_fast.bench"},  # of its peers, which run as scripts
    "jinja2": {"rdx_fast.report"},
    "matplotlib": {"rdx_fast.bench.charts", "rdx_fast.report"},
    "nncf": {"rdx_fast.export"},
    "onnx": {"rdx_fast.export", "rdx_fast.engines.torch_graph"},
    "onnxruntime": {"rdx_fast.export", "rdx_fast.bench"},
    "prometheus_client": {"rdx_fast.station.prometheus"},
    "psutil": {"rdx_fast.bench.memory"},
    "pyarrow": {"rdx_fast.station.records.export"},
    "pymodbus": {"rdx_fast.station.plc.modbus"},
    "pytest": {"rdx_fast.bench.suite"},
    "safetensors": {"rdx_fast.models", "rdx_fast.bench"},
    "sklearn": {"rdx_fast.evaluation"},
    "starlette": {"rdx_fast.hmi"},
    "structlog": {"rdx_fast.station.logs"},
    "torch": {
        "rdx_fast.models",
        "rdx_fast.training",
        "rdx_fast.export",
        "rdx_fast.bench",
        "rdx_fast.kernels.on_triton",
        "rdx_fast.devices.graphs",
        "rdx_fast.devices.torch_device",
        "rdx_fast.engines.torch_engine",
        "rdx_fast.engines.torch_graph",
        "rdx_fast.engines.torch_fusion",
    },
    "triton": {"rdx_fast.kernels.triton_kernels", "rdx_fast.kernels.aot"},
    "uvicorn": {"rdx_fast.hmi.connections", "rdx_fast.hmi.serve"},
}


def sources(root: Path) -> dict[str, Path]:
    """The modules of a checkout and their files."""
    found = {}
    for folder in ("rdx_fast", "kernels", "export", "bench"):
        for path in (root / folder).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            if "environments" in parts:  # of the benchmark's peers
                continue
            parts = parts if parts[0] == "rdx_fast" else ("rdx_fast", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


SOURCES = sources(ROOT)


def package(module: str) -> str:
    """The folder that a module belongs to, or the module itself where it is beside the folders."""
    return ".".join(module.split(".")[:2])


def imports(path: Path, modules: dict[str, Path] = SOURCES) -> set[str]:
    """Modules that a file imports while it runs (``TYPE_CHECKING`` blocks do not)."""
    found: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(n if n in modules or n in LAYERS else str(node.module) for n in full)
        nodes.extend(ast.iter_child_nodes(node))
    return found


def count(root: Path) -> dict[str, int]:
    """Of a checkout: modules, folders, packages, imports of one package by another,
    the longest chain of such imports, most modules in one folder."""
    modules = sources(root)
    edges = {
        (package(module), package(name))
        for module, path in modules.items()
        for name in imports(path, modules)
        if name in modules and package(name) != package(module) and package(module) != "rdx_fast"
    }
    packages = {package(module) for module in modules} - {"rdx_fast"}

    def height(of: str) -> int:
        return 1 + max((height(below) for above, below in edges if above == of), default=0)

    folders = Counter(path.resolve().parent for path in modules.values())
    return {
        "modules": len(modules),
        "folders": len(folders),
        "packages": len(packages),
        "imports between packages": len(edges),
        "longest chain of packages": max(map(height, packages)),
        "most modules in a folder": max(folders.values()),
    }


if __name__ == "__main__":
    for name, number in count(Path(sys.argv[1]) if sys.argv[1:] else ROOT).items():
        print(f"{number:4} {name}")
