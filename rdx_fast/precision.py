"""Choice of the network and precision to run: the fastest that the hardware supports."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from rdx_fast.bundle.manifest import PRECISIONS, ExecutionSpec, Manifest, execution_label
from rdx_fast.errors import EngineError


class Option(NamedTuple):
    """A network stored in one precision and executed in the same or another.

    Attributes:
        stored: see ``manifest.STORED``
        executed: see ``manifest.PRECISIONS``
        needs: capability that the processor must have, one of OpenVINO's, ``FAST_BF16`` or
            ``FLOAT8``; None if every processor runs it
    """

    stored: str
    executed: str
    needs: str | None = None


# Capability: bfloat16 is faster than float32, see ``cpu.has_fast_bf16``.
FAST_BF16 = "FAST_BF16"
# Capability of GPUs: float8.
FLOAT8 = "compute capability 8.9"
# What each backend runs, fastest first. On CPUs the order is measured: see
# docs/measured/precision.md. float16 is left out there, since CPUs that have it are slower in
# float16 than in float32. On GPUs the order follows from the throughput of their arithmetic; fp8 is
# last, so that it runs only if it is requested or alone, as long as it has not been timed. A second
# option for the same execution is for processors that lack what the first one needs.
FASTEST_FIRST = {
    "openvino": (
        Option("int8", "int8", "INT8"),
        Option("fp32", "bf16", FAST_BF16),
        Option("fp32", "fp32"),
        Option("fp16", "fp32"),
        Option("fp32", "bf16", "BF16"),
    ),
    "tensorrt": (
        Option("fp16", "fp16"),
        Option("int8_symmetric", "int8"),
        Option("fp32", "fp32"),
        Option("fp8", "fp8", FLOAT8),
    ),
    "torch": (
        Option("fp16", "fp16"),
        Option("fp32", "bf16"),
        Option("fp32", "fp32"),
    ),
}


class Choice(NamedTuple):
    """A chosen execution.

    Attributes:
        execution: what is run
        reason: why it was chosen, as text
    """

    execution: ExecutionSpec
    reason: str


def choices(
    manifest: Manifest,
    backend: str,
    capabilities: Collection[str] = (),
    precision: str | None = None,
) -> list[Choice]:
    """Executions of a bundle that a processor has the instructions for, fastest first.

    Only executions that passed their check at export are in a bundle, so only those are chosen.

    Args:
        manifest: of the bundle
        backend: a key of ``FASTEST_FIRST``
        capabilities: of the processor
        precision: requested executed precision, None for any

    Raises:
        ValueError: unknown precision
        EngineError: there is no such execution
    """
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, wanted one of {', '.join(PRECISIONS)}")
    held = {(e.stored, e.executed): e for e in manifest.executions}
    able = able_options(backend, capabilities)
    labels = dict.fromkeys((o.stored, o.executed) for o in able)
    here = [held[which] for which in labels if which in held]
    found = [e for e in here if precision in (None, e.executed)]
    if not found:
        raise EngineError(
            f"bundle {manifest.name}, backend {backend}: "
            f"{_why_not(manifest, backend, able, precision)}. {_advice(manifest, here)}"
        )
    if len(here) == 1:
        return [Choice(found[0], "the only one that runs here")]
    if precision is not None:
        return [Choice(execution, "as requested") for execution in found]
    return [
        Choice(execution, f"fastest here of {', '.join(e.label for e in here[rank:])}")
        for rank, execution in enumerate(found)
    ]


def choose(
    manifest: Manifest,
    backend: str,
    capabilities: Collection[str] = (),
    precision: str | None = None,
) -> Choice:
    """The fastest of ``choices``, with the same arguments and errors."""
    return choices(manifest, backend, capabilities, precision)[0]


def gpu_capabilities(compute_capability: int) -> tuple[str, ...]:
    """What ``choices`` asks for, of a GPU; 89 for compute capability 8.9."""
    return (FLOAT8,) if compute_capability >= 89 else ()


def able_options(backend: str, capabilities: Collection[str] = ()) -> list[Option]:
    """Options of a backend that a processor has the instructions for, fastest first."""
    return [o for o in FASTEST_FIRST[backend] if o.needs is None or o.needs in capabilities]


def not_on_cpu(manifest: Manifest, capabilities: Collection[str]) -> list[str]:
    """Why a CPU does not run the bundle's other executions, one text for each reason."""
    able = able_options("openvino", capabilities)
    runs = {execution_label(o.stored, o.executed) for o in able}
    elsewhere = {e.label for e in manifest.executions} - runs
    found = []
    for label, needs in _needs(FASTEST_FIRST["openvino"]).items():
        if label in elsewhere:
            found.append(f"{label} needs {needs}, which this processor lacks")
            elsewhere.discard(label)
    if elsewhere:
        found.append(f"for GPUs: {', '.join(sorted(elsewhere))}")
    return found + [f"left out at export: {left.label}" for left in manifest.left_out]


def _why_not(
    manifest: Manifest, backend: str, able: Sequence[Option], precision: str | None
) -> str:
    """Why ``precision`` cannot be executed: a reason for each way to execute it."""
    if precision is None:
        return f"it holds {', '.join(e.label for e in manifest.executions)}"
    options = [o for o in FASTEST_FIRST[backend] if o.executed == precision]
    if not options:
        others = [
            name
            for name, all_of in FASTEST_FIRST.items()
            if any(o.executed == precision for o in all_of)
        ]
        return f"this backend does not execute {precision} (backend {' or '.join(others)} does)"
    reasons = {left.label: f"was left out at export ({left.reason})" for left in manifest.left_out}
    runs = {execution_label(o.stored, o.executed) for o in able}
    found = []
    for label, needs in _needs(options).items():
        if label in runs:
            found.append(f"{label} {reasons.get(label, 'is not in the bundle')}")
        else:
            found.append(f"{label} needs {needs}, which this processor lacks")
    return "; ".join(found)


def _needs(options: Sequence[Option]) -> dict[str, str | None]:
    """The least capability that each execution needs, which is that of its last option."""
    return {execution_label(o.stored, o.executed): o.needs for o in options}


def _advice(manifest: Manifest, here: Sequence[ExecutionSpec]) -> str:
    other = (
        "export the bundle with another precision (export_bundle(precision=...), rdx-fast export "
        "--precision), or choose another backend"
    )
    if not here:
        holds_float8 = any(e.executed == "fp8" for e in manifest.executions)
        why = f" (fp8 runs on GPUs of {FLOAT8} or later, with TensorRT)" if holds_float8 else ""
        return f"No network of the bundle runs here{why}: {other}"
    precisions = dict.fromkeys(e.executed for e in here)
    return f"Choose precision {' or '.join(precisions)}, which the bundle holds, {other}"
