"""Jobs: bundles with versions, limits and regions; the log of changes."""

from __future__ import annotations

from rdx_fast.hmi.access import ApiRoute
from rdx_fast.hmi.context import Context


def routes(context: Context) -> list[ApiRoute]:
    """Routes of jobs and of the log of changes."""
    return []
