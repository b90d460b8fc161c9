"""Which of a bundle's networks runs, and in what arithmetic: the fastest that the hardware has."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from rdx_fast.errors import EngineError
from rdx_fast.manifest import PRECISIONS, ExecutionSpec, Manifest, execution_label


class Option(NamedTuple):
    """A network stored in one precision, executed in another; ``needs``: what the processor must
    have for it, as OpenVINO names its capabilities."""

    stored: str
    executed: str
    needs: str | None = None


# What each backend runs, fastest first, as measured (docs/precision.md). float16 on a CPU has not
# been measured: it comes last and runs if nothing else can, or if it is asked for.
FASTEST_FIRST = {
    "openvino": (
        Option("int8", "int8", "INT8"),
        Option("fp32", "bf16", "BF16"),
        Option("fp32", "fp32"),
        Option("fp16", "fp32"),
        Option("fp16", "fp16", "FP16"),
    ),
    "tensorrt": (
        Option("fp16", "fp16"),
        Option("int8_symmetric", "int8"),
        Option("fp32", "fp32"),
    ),
    "torch": (
        Option("fp16", "fp16"),
        Option("fp32", "bf16"),
        Option("fp32", "fp32"),
    ),
}


class Choice(NamedTuple):
    """``execution``: what is run; ``reason``: why this one, for people."""

    execution: ExecutionSpec
    reason: str


def choose(
    manifest: Manifest,
    backend: str,
    capabilities: Collection[str] = (),
    precision: str | None = None,
) -> Choice:
    """Choose an execution of a bundle.

    ``backend``: a key of ``FASTEST_FIRST``; ``capabilities``: of the processor; ``precision``: the
    executed precision that is wanted, None for the fastest. Only what passed its check at export is
    in a bundle, so only that is chosen.

    Raises ``ValueError`` for an unknown precision, ``EngineError`` if there is no such execution.
    """
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, wanted one of {', '.join(PRECISIONS)}")
    held = {(e.stored, e.executed): e for e in manifest.executions}
    order = FASTEST_FIRST[backend]
    able = [o for o in order if o.needs is None or o.needs in capabilities]
    here = [held[o.stored, o.executed] for o in able if (o.stored, o.executed) in held]
    found = [e for e in here if precision in (None, e.executed)]
    if found:
        labels = ", ".join(e.label for e in here)
        reason = f"fastest here of {labels}" if precision is None else "as asked for"
        return Choice(found[0], reason if len(here) > 1 else "the only one here")
    wanted = "a network" if precision is None else precision
    refused = [text for label, text in manifest.left_out.items() if label.startswith(wanted)]
    runs = ", ".join(execution_label(o.stored, o.executed) for o in able)
    raise EngineError(
        f"the bundle {manifest.name} has nothing to run as {wanted} with {backend} on this "
        f"machine: it holds {', '.join(e.label for e in manifest.executions)}; {backend} runs "
        f"{runs} here. "
        + (f"At export {wanted} was left out: {refused[0]}. " if refused else "")
        + "Choose another precision, or export again with --precision auto"
    )
