"""Routes of parts, pictures, labels, quality and exports, and the live feed behind them."""

from __future__ import annotations

from rdx_fast.hmi import export_api, labels_api, parts_api
from rdx_fast.hmi.access import ApiRoute
from rdx_fast.hmi.context import Context
from rdx_fast.hmi.data import StationData


def routes(context: Context) -> list[ApiRoute]:
    """All of them; they share one ``StationData``."""
    data = StationData(context)
    return [
        *parts_api.routes(data),
        *labels_api.routes(data, context.file),
        *export_api.routes(data, context.name),
    ]
