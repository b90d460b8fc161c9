"""The commands ``hmi``, the operator's page of a station, and ``hmi-user``, its users."""

from __future__ import annotations

import json
import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal

import typer

from rdx_fast.bundle.history import system_user
from rdx_fast.cli.common import JsonFlag, data, notes
from rdx_fast.cli.tables import pairs_table
from rdx_fast.errors import MissingDependencyError
from rdx_fast.hmi.users import User, Users, UsersError, open_to_others
from rdx_fast.station.config import ConfigError, StationFile, read_station
from rdx_fast.station.hmi_config import HmiConfig
from rdx_fast.station.records.changes import ChangeLog
from rdx_fast.station.records.entered import entered

users_app = typer.Typer(no_args_is_help=True, help="Add, remove or list users of a station's page.")

Station = Annotated[
    Path, typer.Option("--station", help="The station's configuration, with a table \\[hmi].")
]
Name = Annotated[str, typer.Argument(help="Name of the user.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(help="File whose first line is the password. Default: it is asked for."),
]


def hmi(
    configuration: Annotated[
        Path, typer.Argument(help="The station's configuration, with a table \\[hmi].")
    ],
) -> None:
    """Serve the operator's page of a station. It runs beside 'station', as a process of its own.

    Ends on Ctrl-C or SIGTERM.
    """
    file = read_station(configuration)
    table = _table(file, configuration)
    try:
        from rdx_fast.hmi.serve import sends_in_clear, serve
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("starlette", "uvicorn"):
            raise
        raise MissingDependencyError(package, "the operator's page", "hmi") from error
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if sends_in_clear(table):
        notes.print(
            f"warning: passwords pass unencrypted through the network of {table.address}: set "
            f"certificate and private_key in [hmi]",
            markup=False,
        )
    if open_to_others(table.users):
        notes.print(
            f"warning: other users of this machine may read {table.users}:  chmod 600 "
            f"{table.users}",
            markup=False,
        )
    serve(file, configuration.stem, lambda where: notes.print(f"page: {where}", highlight=False))


@users_app.command("add")
def add(
    name: Name,
    role: Annotated[
        Literal["operator", "engineer"],
        typer.Option(help="operator: labels parts. engineer: also changes jobs, limits, regions."),
    ],
    station: Station = Path("station.toml"),
    password_file: PasswordFile = None,
) -> None:
    """Add a user."""
    users, log = _users(station)
    if password_file is None:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = _first_line(password_file)
    users.add(name, role, password, lambda user: _entered(log, users, None, user))
    notes.print(f"added: {name}, {role}", highlight=False, markup=False)


@users_app.command("remove")
def remove(name: Name, station: Station = Path("station.toml")) -> None:
    """Remove a user, who is logged out at once."""
    users, log = _users(station)
    users.remove(name, lambda user: _entered(log, users, user, None))
    notes.print(f"removed: {name}", highlight=False, markup=False)


@users_app.command("list")
def list_users(station: Station = Path("station.toml"), as_json: JsonFlag = False) -> None:
    """List the users and their roles."""
    users, _ = _users(station)
    if as_json:
        print(json.dumps([{"name": of.name, "role": of.role} for of in users.all()], indent=2))
    else:
        data.print(pairs_table("Users", [(of.name, of.role) for of in users.all()]))


def _entered(
    log: ChangeLog, users: Users, before: User | None, after: User | None
) -> AbstractContextManager[None]:
    """Enters that a user is added or removed, which the body does."""
    old, new = ({} if of is None else {"user": of.name, "role": of.role} for of in (before, after))
    name = (before or after).name  # type: ignore[union-attr]
    return entered(log, "user", system_user(), old, new, lambda: users.get(name) == after)


def _users(station: Path) -> tuple[Users, ChangeLog]:
    file = read_station(station)
    return Users(_table(file, station).users), ChangeLog(file.records.path)


def _table(file: StationFile, configuration: Path) -> HmiConfig:
    if file.hmi is None:
        raise ConfigError(
            f"{configuration} has no table [hmi]: add one, if only the line  [hmi]  itself"
        )
    return file.hmi


def _first_line(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsersError(f"{file}: the password cannot be read: {error}") from error
    if not lines:
        raise UsersError(f"{file} is empty, wanted a password in its first line")
    return lines[0]
