"""The command ``plan``: all that a GPU needs to open a bundle."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.bundle import Bundle, open_bundle
from rdx_fast.cli.common import BundlePath, Executed, notes
from rdx_fast.cli.progress import show_plan, show_stages
from rdx_fast.engines import GpuOptions
from rdx_fast.errors import EngineError

Capability = Annotated[
    str | None,
    typer.Option(
        metavar="X.Y",
        help="Build for any GPU of this compute capability, such as 8.6, instead of this machine's "
        "(TensorRT for RTX).",
    ),
]


def plan(
    bundle: BundlePath,
    compute_capability: Capability = None,
    usual_batch: Annotated[int, typer.Option(min=1, help="Batch to be fastest at.")] = 1,
    max_batch: Annotated[int, typer.Option(min=1, help="Largest batch at once.")] = 32,
    workspace_mb: Annotated[int, typer.Option(min=1, help="Memory for the search.")] = 4096,
    device: Annotated[int, typer.Option(min=0, help="Which GPU.")] = 0,
    precision: Executed = None,
) -> None:
    """Build the TensorRT plan and the kernels of a bundle ahead of its first use."""
    try:
        options = GpuOptions(device, (1, usual_batch, max_batch), workspace_mb)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    plan_bundle(open_bundle(bundle), compute_capability, options, precision)


def plan_bundle(
    bundle: Bundle,
    compute_capability: str | None,
    options: GpuOptions | None = None,
    precision: str | None = None,
) -> None:
    """Build what is missing, and show how that gets on."""
    from rdx_fast.engines.tensorrt.build import prepare_plan

    capability = parse_capability(compute_capability)
    with show_plan() as on_progress:
        file = prepare_plan(bundle, options, capability, on_progress, precision)
    notes.print(f"plan: {file} ({file.stat().st_size / 1e6:.0f} MB)")
    with show_stages("plan", "kernels"):
        notes.print(f"kernels: {ensure_kernels(bundle)}")


def ensure_kernels(bundle: Bundle) -> Path:
    """The folder of built kernels, made inside the bundle if there is none and Triton is here."""
    from rdx_fast.kernels.gpu.library import KERNELS, find_kernels

    try:
        return find_kernels(bundle.path)
    except EngineError:
        if find_spec("triton") is None:
            raise
    from rdx_fast.kernels.aot import build

    return build(bundle.path / KERNELS).parent


def parse_capability(text: str | None) -> int | None:
    """86 of "8.6"."""
    if text is None:
        return None
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal() and len(minor) == 1):
        raise typer.BadParameter(f"compute capability {text!r}, wanted one such as 8.6 or 12.0")
    return 10 * int(major) + int(minor)
