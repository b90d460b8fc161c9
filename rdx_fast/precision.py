"""Which of a bundle's networks runs, and in what arithmetic: the fastest that the hardware has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from rdx_fast.errors import EngineError
from rdx_fast.manifest import PRECISIONS, ExecutionSpec, Manifest


class Option(NamedTuple):
    """A network stored in one precision, executed in another; ``needs``: what the processor must
    have for it, as OpenVINO names its capabilities."""

    stored: str
    executed: str
    needs: str | None = None


# What each backend runs, fastest first. int8 before float32 on CPUs is measured
# (docs/precision.md); where bfloat16 comes, and the order on GPUs, is what their arithmetic
# promises. float16 on a CPU has not been measured: it comes last and runs if nothing else can, or
# if it is asked for.
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
    raise EngineError(
        f"bundle {manifest.name}, backend {backend}: {_why_not(manifest, order, able, precision)}. "
        f"The bundle holds {', '.join(e.label for e in manifest.executions)}, of which "
        f"{', '.join(e.label for e in here) or 'nothing'} can run here: choose another precision "
        f"or backend, or export with --precision auto"
    )


def _why_not(
    manifest: Manifest, order: Sequence[Option], able: Sequence[Option], precision: str | None
) -> str:
    """Why nothing of ``order`` that executes ``precision`` can be run."""
    if precision is None:
        return "nothing in the bundle runs here"
    options = [o for o in order if o.executed == precision]
    if not options:
        others = [
            b for b, all_of in FASTEST_FIRST.items() if precision in {o.executed for o in all_of}
        ]
        return f"it runs no {precision} ({', '.join(others)} may)"
    usable = {(o.stored, o.executed) for o in options if o in able}
    if not usable:
        return f"this processor lacks {', '.join(str(o.needs) for o in options)}"
    for left in manifest.left_out:
        if (left.stored, left.executed) in usable:
            return f"{left.label} was left out at export ({left.reason})"
    return f"the bundle holds no {precision} for it"
