"""All tests and measurements that need a GPU: ``python -m rdx_fast.bench.gpu --help``.

A second call with the same output and commit goes on where the first one ended: steps are small,
since a step that is killed starts anew. Nothing is timed before its results agree with the CPU's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from math import inf
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from rdx_fast.bench.gpu_engines import (
    Subject,
    free_memory,
    latency_batches,
    measure_latency,
    measure_rivals,
    measure_staging,
    measure_stream,
    stream_batches,
)
from rdx_fast.bench.gpu_kernels import measure_kernels
from rdx_fast.bench.result_rows import facts
from rdx_fast.bench.steps import Step, recorded, run_steps
from rdx_fast.cpu import usable_cores
from rdx_fast.engines import GpuOptions
from rdx_fast.kernels.gpu.operations import OPERATIONS

KERNEL_TESTS = (*OPERATIONS, "epilogue", "postprocess", "aot", "driver", "gpu_pipeline")
ENGINE_TESTS = ("gpu", "gpu_training")  # which measure memory or fill the GPU: one at a time
LOST = "test_a_lost_gpu"  # part of the name of the test that makes a GPU fail
TEST_SECONDS = 240.0  # for the tests of a step, so that one which hangs leaves time for others
TEST_LINES = 25  # kept of what pytest said, from its end
SAME = ("commit", "gpu", "network")  # facts of one measurement


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
            output = folder / "rows.jsonl"
        else:
            folder = output.with_suffix(".bundles") / common["commit"]
            folder.mkdir(parents=True, exist_ok=True)
        subject = Subject(bundle, backbone, folder, dataset)
        stack.callback(subject.close)
        steps = all_steps(subject, None if skip_tests else tests, calls, seconds)
        states = run_steps(steps, common, SAME, output, budget_seconds, between_steps)
        rows = recorded(output, common, SAME)
    for name, state in states.items():
        print(f"{state:8} {name}")
    for engine, row in best_rates(rows).items():
        print(f"{row['fps']} frames/s at batch {row['batch']}, the best of those done: {engine}")
    if set(states.values()) != {"done"}:
        raise typer.Exit(1)


def between_steps() -> None:
    """Free memory. Raises torch's error if the GPU is lost, which then every call reports."""
    torch.cuda.synchronize()
    free_memory()


def best_rates(rows: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The row with the most frames per second, by engine; of a step that ran again, its last."""
    last = {row["step"]: row for row in rows if "fps" in row}
    found: dict[str, Mapping[str, Any]] = {}
    for row in sorted(last.values(), key=lambda row: float(row["fps"])):
        found[row["engine"]] = row
    return found


def all_steps(subject: Subject, tests: Path | None, calls: int, seconds: float) -> list[Step]:
    """In the order to run them. What may take longest, or lose the GPU, comes last."""
    steps: list[Step] = []
    if tests is not None:
        wanted = (*KERNEL_TESTS, *ENGINE_TESTS)
        files = {name: path for name in wanted for path in tests.rglob(f"test_{name}.py")}
        if files.keys() != set(wanted):
            missing = ", ".join(sorted(set(wanted) - files.keys()))
            raise typer.BadParameter(f"{tests} holds no tests of {missing}")
        kernels = [files[name] for name in KERNEL_TESTS]
        steps += [
            ("tests of the kernels", partial(run_tests, kernels, f"not {LOST}", usable_cores())),
            *(
                (f"tests of {name}", partial(run_tests, [files[name]], f"not {LOST}"))
                for name in ENGINE_TESTS
            ),
        ]

    def engine(name: str, backend: str, options: GpuOptions, copied: bool = False) -> list[Step]:
        return engine_steps(name, subject, backend, options, calls, seconds, copied)

    steps += [
        ("kernels", measure_kernels),
        *engine("torch", "torch", GpuOptions(), copied=True),
        ("published pipeline", partial(measure_rivals, subject, False, calls // 10)),
        *engine("torch, not fused", "torch", GpuOptions(fuse=False)),
        *engine("tensorrt", "tensorrt", GpuOptions(), copied=True),
        *engine("torch, compiled", "torch", GpuOptions(compile=True)),
        ("torch.compile alone", partial(measure_rivals, subject, True, calls // 10)),
    ]
    if tests is not None:
        steps += [("a lost GPU", partial(run_tests, [files["gpu"]], LOST))]
    return steps


def engine_steps(
    name: str,
    subject: Subject,
    backend: str,
    options: GpuOptions,
    calls: int,
    seconds: float,
    copied: bool,
) -> list[Step]:
    """A step for each batch size; ``copied``: and one for frames that are copied to the GPU."""
    of = (subject, backend, options)
    steps: list[Step] = [
        (f"{name}: latency at batch {batch}", partial(measure_latency, *of, batch, calls))
        for batch in latency_batches(options)
    ]
    if copied:
        steps += [(f"{name}: frames copied or read", partial(measure_staging, *of, calls))]
    return steps + [
        (f"{name}: frames/s at batch {batch}", partial(measure_stream, *of, batch, seconds))
        for batch in stream_batches(options)
    ]


def run_tests(
    files: Sequence[Path], selected: str, processes: int = 0, seconds: float = TEST_SECONDS
) -> Iterator[dict[str, Any]]:
    """Run tests of some files in a process of its own, or in several, slow ones too.

    Raises ``RuntimeError``, with the end of what pytest said as a note, if one fails or if they
    take longer.
    """
    options = ("-v", f"-n{processes}", "-m", "", "-k", selected)
    command = [sys.executable, "-m", "pytest", *options, *map(str, files)]
    # A file, not a pipe: what a killed test started may hold a pipe open.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        try:
            done = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, timeout=seconds, check=False
            )
            failure = "tests fail on this GPU" if done.returncode else ""
        except subprocess.TimeoutExpired:
            failure = f"tests took longer than {seconds:g} s and were killed"
        file.seek(0)
        said = file.read().strip().splitlines()
    if failure:
        # A note, not part of the message: that a test's process lost the GPU says nothing of ours.
        error = RuntimeError(failure)
        error.add_note("\n".join(said[-TEST_LINES:]))
        raise error
    yield {"tests": [file.stem for file in files], "passed": said[-1].strip("= ")}


if __name__ == "__main__":
    typer.run(main)
