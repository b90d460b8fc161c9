"""Structured logs as JSON lines. The only file that imports structlog."""

from __future__ import annotations

import logging
import sys

from rdx_fast.errors import MissingDependencyError

try:
    import structlog
except ModuleNotFoundError as _error:
    if _error.name != "structlog":
        raise
    raise MissingDependencyError("structlog", "the station's logs", "station") from None


def log_json(level: str = "INFO") -> None:
    """Write the station's log to stderr as JSON lines with UTC times.

    Other libraries log warnings and errors only, pymodbus and asyncua critical errors only.

    Args:
        level: lowest level of the station's own messages
    """
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("rdx_fast").setLevel(level)
    # Invalid requests of unknown clients are not our errors and must not fill the disk.
    for library in ("pymodbus.logging", "asyncua"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
