"""All tests and measurements that need a GPU: ``python -m rdx_fast.bench.gpu --help``.

A second call with the same output and commit goes on where the first one ended. Nothing is timed
before its results agree with the CPU's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from math import inf
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from rdx_fast.bench.gpu_engines import Subject, measure_engine, measure_rivals
from rdx_fast.bench.gpu_kernels import measure_kernels
from rdx_fast.bench.result_rows import facts
from rdx_fast.bench.steps import Step, run_steps
from rdx_fast.engines import GpuOptions
from rdx_fast.kernels.gpu.operations import OPERATIONS

TESTS = (
    *OPERATIONS,
    "epilogue",
    "postprocess",
    "aot",
    "driver",
    "gpu_pipeline",
    "gpu",
)
OPTIONS = GpuOptions()
LOST = "test_a_lost_gpu"  # part of the name of the test that makes a GPU fail


def main(
    bundle: Annotated[
        Path | None, typer.Argument(help="Engine bundle; by default, an untrained one is exported.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="Of the untrained bundle.")] = "wide_resnet50_2",
    dataset: Annotated[
        Path | None, typer.Option(help="Data set with frames for the comparison.")
    ] = None,
    tests: Annotated[Path, typer.Option(help="Folder of the tests to run first.")] = Path("tests"),
    skip_tests: Annotated[bool, typer.Option("--skip-tests")] = False,
    calls: Annotated[int, typer.Option(min=10, help="Calls for each latency.")] = 2000,
    seconds: Annotated[float, typer.Option(help="Seconds for each throughput.")] = 2.0,
    output: Annotated[
        Path | None, typer.Option(help="JSON lines to append to, and to go on from.")
    ] = None,
    budget_seconds: Annotated[
        float, typer.Option(help="Start no further step after this time.")
    ] = inf,
    commit: Annotated[
        str | None, typer.Option(help="What is measured, where git cannot tell it.")
    ] = None,
) -> None:
    """Test, check and time on this machine's GPU."""
    if not torch.cuda.is_available():
        raise typer.BadParameter(
            "torch finds no CUDA GPU, which this command needs: run it on a machine with a GPU and "
            "a CUDA build of torch"
        )
    common = facts("gpu", ("numpy", "torch", "triton"))
    common |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    common |= {"network": f"untrained {backbone}" if bundle is None else str(bundle)}
    if commit is not None:
        common["commit"] = commit
    for package in ("tensorrt", "tensorrt_rtx_cu13", "cuda-bindings", "openvino"):
        try:
            common["versions"][package] = version(package)
        except PackageNotFoundError:
            common["versions"][package] = None
    with ExitStack() as stack:
        if output is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = output.with_suffix(".bundles") / common["commit"]
            folder.mkdir(parents=True, exist_ok=True)
        subject = Subject(bundle, backbone, folder, dataset)
        steps = all_steps(subject, None if skip_tests else tests, calls, seconds)
        same = ("commit", "gpu", "network")
        states = run_steps(steps, common, same, output, budget_seconds)
    for name, state in states.items():
        print(f"{state:8} {name}")
    if set(states.values()) != {"done"}:
        raise typer.Exit(1)


def all_steps(subject: Subject, tests: Path | None, calls: int, seconds: float) -> list[Step]:
    """In the order to run them. What may take longest, or lose the GPU, comes last."""
    steps: list[Step] = []
    if tests is not None:
        files = {name: path for name in TESTS for path in tests.rglob(f"test_{name}.py")}
        if files.keys() != set(TESTS):
            missing = ", ".join(sorted(set(TESTS) - files.keys()))
            raise typer.BadParameter(f"{tests} holds no tests of {missing}")
        steps += [
            (f"tests of {name}", partial(run_tests, path, f"not {LOST}"))
            for name, path in files.items()
        ]

    def engine(backend: str, **options: Any) -> Callable[[], Iterator[dict[str, Any]]]:
        given = replace(OPTIONS, **options)
        return partial(measure_engine, subject, backend, given, calls, seconds)

    steps += [
        ("kernels", measure_kernels),
        ("torch", engine("torch")),
        ("torch, not fused", engine("torch", fuse=False)),
        ("published pipeline", partial(measure_rivals, subject, False, calls // 10)),
        ("tensorrt", engine("tensorrt")),
        ("torch, compiled", engine("torch", compile=True)),
        ("torch.compile alone", partial(measure_rivals, subject, True, calls // 10)),
    ]
    if tests is not None:
        steps += [("recovery of a lost GPU", partial(run_tests, files["gpu"], LOST))]
    return steps


def run_tests(path: Path, selected: str) -> Iterator[dict[str, Any]]:
    """Run tests of one file in a process of its own, slow ones too.

    Raises ``RuntimeError`` with the end of what pytest said if one fails.
    """
    options = ("-q", "-n0", "-m", "", "-k", selected)
    command = [sys.executable, "-m", "pytest", *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout.strip().splitlines()
    if done.returncode:
        raise RuntimeError("\n".join(["tests fail on this GPU", *said[-40:]]))
    yield {"tests": path.stem, "passed": said[-1]}


if __name__ == "__main__":
    typer.run(main)
