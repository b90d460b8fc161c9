"""What the limits of a released bundle were for, so that a candidate's are for the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dacite

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.bundle_history import bundle_history
from rdx_fast.limits.limits import Limits, rates_of_parts
from rdx_fast.limits.promise import Wish
from rdx_fast.retraining.confirmed import RetrainError

_LIMITS = "limits of "  # in the facts of a history


def wish_of(bundle: Bundle) -> tuple[Wish, list[str]]:
    """What the limits of a bundle were calibrated for.

    Limits that were set by hand are of scores of that network, and mean nothing for another one's:
    what was promised before they were set counts then.

    Returns:
        the wish, which accepts what its images could promise; and what is to be told about it

    Raises:
        RetrainError: they never were calibrated on good images alone
    """
    manifest = bundle.manifest
    stale = manifest.stale_executions()
    current = [e for e in manifest.executions if e.label not in stale]
    for execution in current:
        if (wish := _wish(execution.limits)) is not None:
            return wish, []
    by_hand = sorted(
        {
            limit.reason
            for e in current
            for of in e.limits
            for limit in (of.ok_below, of.ng_above)
            if limit.method == "manual"
        }
    )
    for change in reversed(bundle_history(bundle) if by_hand else []):
        for name, facts in change.after.items():
            if name.startswith(_LIMITS) and (wish := _wish(_limits(facts))) is not None:
                return wish, [
                    f"limits set by hand ({'; '.join(by_hand)}) are not carried over, since they "
                    f"are of scores of the released network: the candidate's promise what was "
                    f"promised before, at most {wish.false_reject_rate:.3%} false rejects"
                ]
    raise RetrainError(
        f"{bundle.path}: its limits were not calibrated on good images alone, so it is not clear "
        f"what a candidate's are for: say it (--false-reject, --review), and calibrate the "
        f"candidate otherwise afterwards if need be (rdx-fast calibrate)"
    )


def _wish(limits: Sequence[Limits]) -> Wish | None:
    """What limits promise together; None unless all were calibrated on good images alone."""
    ok = rates_of_parts([of.ok_below for of in limits]).false_reject_rate
    ng = rates_of_parts([of.ng_above for of in limits]).false_reject_rate
    if ok is None or ng is None or not 0 < ng <= ok < 1:
        return None
    one = all(of.ok_below == of.ng_above for of in limits)
    return Wish(ng, None if one else ok, weaker=True)


def _limits(facts: Any) -> list[Limits]:
    try:
        return [dacite.from_dict(Limits, of, dacite.Config(strict=True)) for of in facts]
    except (dacite.DaciteError, ValueError, TypeError):  # written by another version
        return []
