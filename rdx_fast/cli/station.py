"""The command ``station``: runs the inspection station."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Literal

import typer

from rdx_fast.cli import tables
from rdx_fast.cli.common import data, notes
from rdx_fast.station.config import read_station


def station(
    configuration: Annotated[
        Path | None,
        typer.Argument(help="Configuration file: see docs/reference/plc.md and --example."),
    ] = None,
    show_map: Annotated[bool, typer.Option("--map", help="Print the Modbus register map.")] = False,
    example: Annotated[
        Path | None, typer.Option(help="Print an example configuration for this bundle.")
    ] = None,
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING"], typer.Option(help="Lowest level of log messages.")
    ] = "INFO",
) -> None:
    """Run the station: inspect at each trigger of a PLC, answer OK, REVIEW or NG, keep records.

    Ends on Ctrl-C or SIGTERM.
    """
    from rdx_fast.station import run

    if show_map:
        data.print(tables.register_table())
        return
    if example is not None:
        print(run.example(example), end="")
        return
    if configuration is None:
        raise typer.BadParameter("give a configuration, or --map, or --example BUNDLE")
    from rdx_fast.station.logs import log_json

    log_json(log_level)
    file = read_station(configuration)
    if file.modbus is None and file.opcua is None:
        raise typer.BadParameter(
            f"{configuration} has neither [modbus] nor [opcua]: add one, so that a PLC can connect"
        )
    wait_for_the_end = end_by_signal()
    with run.running(file) as online:
        places = ", ".join(f"{name} on port {port}" for name, port in online.ports.items())
        notes.print(f"online: {places}", highlight=False)
        wait_for_the_end()


def end_by_signal() -> Callable[[], None]:
    """Catch Ctrl-C and SIGTERM from now on.

    Returns:
        A function that waits for one of them, and returns at once if one was received already.
    """
    # Not an event: the thread that the handler interrupts may hold the lock that set() needs.
    received: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: received.put(number))

    def wait() -> None:
        while True:
            # On some systems a wait without a timeout is not interrupted by the signal.
            with suppress(Empty):
                received.get(timeout=1.0)
                return

    return wait
