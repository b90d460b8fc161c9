"""The command ``plan``: builds what a GPU needs to open a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.signature import SigningKey
from rdx_fast.cli.common import BundlePath, Executed, notes
from rdx_fast.cli.progress import show_plan, show_stages
from rdx_fast.engines import GpuOptions
from rdx_fast.kernels.gpu.library import MANIFEST

Capability = Annotated[
    str | None,
    typer.Option(
        metavar="X.Y",
        help="Build for every GPU of this compute capability, such as 8.6, instead of for this "
        "machine's GPU (TensorRT for RTX).",
    ),
]


def plan(
    bundle: BundlePath,
    compute_capability: Capability = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Largest batch size.")] = 128,
    workspace_mb: Annotated[
        int, typer.Option(min=1, help="Memory in MB that TensorRT may use while building.")
    ] = 4096,
    optimization_level: Annotated[
        int,
        typer.Option(
            min=0,
            max=5,
            help="How long TensorRT searches for the fastest plan. TensorRT for RTX takes the "
            "default alone.",
        ),
    ] = 3,
    device: Annotated[
        int | None, typer.Option(min=0, help="Number of this machine's GPU. Default: 0.")
    ] = None,
    precision: Executed = None,
    sign_key: Annotated[
        Path | None,
        typer.Option(
            help="Sign plan and kernels with this private key, Ed25519 in PEM. What lies in the "
            "bundle unsigned is an error then."
        ),
    ] = None,
) -> None:
    """Build the TensorRT plan and the GPU kernels of a bundle before its first use."""
    if device is not None and compute_capability is not None:
        raise typer.BadParameter(
            "--device is a GPU of this machine, --compute-capability is for any machine's: give "
            "one of them"
        )
    options = GpuOptions(
        device or 0, max_batch, workspace_mb, optimization_level=optimization_level
    )
    plan_bundle(open_bundle(bundle), compute_capability, options, precision, sign_key)


def plan_bundle(
    bundle: Bundle,
    compute_capability: str | None,
    options: GpuOptions | None = None,
    precision: str | None = None,
    sign_key: Path | None = None,
) -> None:
    """Build the plan and the kernels that are missing, and show the progress.

    Args:
        bundle: the bundle, which the results are written to
        compute_capability: build for every GPU of it, such as "8.6"; None for this machine's GPU
        options: GPU, batch sizes and memory; None for the defaults
        precision: what is executed; None for the fastest
        sign_key: file of the private key that signs them; None leaves them unsigned

    Raises:
        BundleError: the key cannot be read, or plan or kernels are there and it did not sign them
        EngineError: the plan or the kernels cannot be built
        typer.BadParameter: the compute capability is invalid
    """
    from rdx_fast.engines.tensorrt.build import prepare_kernels, prepare_plan
    from rdx_fast.engines.tensorrt.plan import describe_plan

    capability = parse_capability(compute_capability)
    signing = None if sign_key is None else SigningKey.read(sign_key)
    if signing is not None:  # and not what somebody else may have put there
        bundle = replace(bundle, public_key=signing.public)
    with show_plan() as on_progress:
        file, key, built = prepare_plan(bundle, options, capability, on_progress, precision)
    if signing is not None:
        signing.sign_made(file)
    told = describe_plan(key, bundle.path, bundle.manifest)
    notes.print(f"plan {'built' if built else 'already there'}: {told}: {file}", markup=False)
    with show_stages("plan", "kernels"):
        kernels = prepare_kernels(bundle)
    if signing is not None and kernels.parent == bundle.path:
        signing.sign_made(kernels / MANIFEST)
    notes.print(f"kernels: {kernels}")


def parse_capability(text: str | None) -> int | None:
    """Parse a compute capability.

    Args:
        text: such as "8.6", or None

    Returns:
        Ten times its value, such as 86; None for None.

    Raises:
        typer.BadParameter: the text is not a compute capability
    """
    if text is None:
        return None
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal() and len(minor) == 1):
        raise typer.BadParameter(f"compute capability is {text!r}, wanted one such as 8.6 or 12.0")
    return 10 * int(major) + int(minor)
