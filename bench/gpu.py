"""All tests and measurements that need a GPU, in one run: ``python -m rdx_fast.bench.gpu --help``.

First the tests that depend on a GPU, then the kernels, then the engines. Nothing is timed before
its results agree with the CPU's. Takes less than eight minutes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from rdx_fast.bench import gpu_engines
from rdx_fast.bench.generated import generated_bundle
from rdx_fast.bench.gpu_kernels import measure_kernels
from rdx_fast.bench.result_rows import append, facts, network_facts
from rdx_fast.bundle import Bundle, open_bundle
from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.images import read_image
from rdx_fast.kernels.gpu.operations import OPERATIONS
from rdx_fast.models import make_network

TESTS = (
    *OPERATIONS,
    "epilogue",
    "postprocess",
    "aot",
    "driver",
    "gpu_pipeline",
    "gpu",
)


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
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Test, check and time on this machine's GPU."""
    if not torch.cuda.is_available():
        raise typer.BadParameter(
            "torch finds no CUDA GPU, which this command needs: run it on a machine with a GPU and "
            "a CUDA build of torch"
        )
    tested: dict[str, Any] = {}
    if not skip_tests:
        files = [str(path) for name in TESTS for path in tests.rglob(f"test_{name}.py")]
        if len(files) != len(TESTS):
            raise typer.BadParameter(f"{tests} holds {len(files)} of the {len(TESTS)} test files")
        options = ("-q", "-n0", "-m", "")  # in one process, since there is one GPU; slow tests too
        done = subprocess.run([sys.executable, "-m", "pytest", *options, *files], check=False)
        if done.returncode:  # measure nonetheless: what does work is worth knowing
            print("tests fail on this GPU", file=sys.stderr)
        tested = {"tests_passed": not done.returncode}
    common = facts("gpu", ("numpy", "torch", "triton"))
    common |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda} | tested
    for package in ("tensorrt", "tensorrt_rtx_cu13", "cuda-bindings", "openvino"):
        try:
            common["versions"][package] = version(package)
        except PackageNotFoundError:
            common["versions"][package] = None
    with ExitStack() as stack:
        if bundle is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            opened = generated_bundle(backbone, "fp16", Path(folder))
        else:
            opened = open_bundle(bundle)
        if not any(e.executed == "fp32" for e in opened.manifest.executions):
            raise typer.BadParameter(
                f"{opened.path} has no network to execute in float32 on the CPU, with which scores "
                f"are compared: export it with --precision auto or fp16"
            )
        frames = real_frames(dataset) if dataset is not None else drawn_frames(opened)
        for row in (
            *measure_kernels(),
            *measure_engines(opened, frames, "cuda", calls, seconds),
        ):
            # Written one by one, so that what was measured before a failure is kept.
            print(row, flush=True)
            if output is not None:
                append(output, [common | row])


def measure_engines(
    bundle: Bundle, frames: list[NDArray[np.uint8]], device: str, calls: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Rows about every engine on a GPU, one engine after the other."""
    manifest = bundle.manifest
    about: dict[str, Any] = {
        "method": manifest.method,
        "backbone": manifest.backbone,
        "frame": list(frames[0].shape),
    }
    flops, rate = gpu_engines.image_flops(bundle), gpu_engines.matrix_rate(device)
    limit = rate / flops
    yield about | {"gflop_per_image": flops / 1e9, "tflop_per_s": rate / 1e12, "limit_fps": limit}
    engines, opened = gpu_engines.open_all(bundle)
    yield from (about | row for row in opened)
    batches = np.stack([frames[i % len(frames)] for i in range(max(gpu_engines.STREAM_BATCHES))])
    network = make_network(manifest.method, manifest.backbone)
    rivals = gpu_engines.rivals(network, manifest, device)
    for engine in engines.values():
        with (
            Detector(engine) as detector,
            Detector(bundle.path, "openvino", precision="fp32") as cpu,
        ):
            same = about | network_facts(detector) | {"engine": detector.description}
            try:
                yield same | gpu_engines.parity(detector, cpu, frames)
            except RuntimeError as error:  # of this engine; the others are measured
                yield same | {"refused": str(error)}
                continue
            for batch in gpu_engines.LATENCY_BATCHES:
                yield same | gpu_engines.latency(detector, batches[:batch], calls)
            yield same | gpu_engines.latency(detector, batches[:1], calls, maps=True)
            for batch in gpu_engines.STREAM_BATCHES:
                fps = gpu_engines.throughput(detector, batches, batch, seconds)
                yield same | {"batch": batch, "fps": round(fps, 1), "share_of_limit": fps / limit}
            ours = partial(detector.score, maps=False)
            compared = gpu_engines.against(ours, rivals, batches[0], calls // 10)
            yield from (same | row for row in compared)


def real_frames(dataset: Path) -> list[NDArray[np.uint8]]:
    """The images of a test set."""
    return [read_image(image.path) for image in find_dataset(dataset).test()]


def drawn_frames(bundle: Bundle) -> list[NDArray[np.uint8]]:
    """Noise of the input's size, used without a data set."""
    spec = bundle.manifest.input
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8) for _ in range(16)]


if __name__ == "__main__":
    typer.run(main)
