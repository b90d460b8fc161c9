"""A station's page for tests: a bundle, users whose passwords cost little, and a clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.testclient import TestClient

from rdx_fast.hmi.app import create_app
from rdx_fast.hmi.context import Context
from rdx_fast.hmi.users import Users
from rdx_fast.station.config import CameraConfig, JobConfig, RecordConfig, StationFile
from rdx_fast.station.hmi_config import HmiConfig, RetrainConfig
from rdx_fast.station.interfaces import StatusConfig

PASSWORDS = {"olga": "operator-olga", "emil": "engineer-emil"}
ROLES = {"olga": "operator", "emil": "engineer"}
ADDRESS = "http://127.0.0.1:8460"


class Clock:
    """Shows the time that a test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Page:
    """The page's application, and what a test changes around it."""

    app: Starlette
    folder: Path
    users: Users
    clock: Clock
    file: StationFile

    @property
    def context(self) -> Context:
        context: Context = self.app.state.context
        return context

    def client(self, user: str | None = None, address: str = ADDRESS) -> Client:
        """A browser, logged in if a user is named."""
        client = Client(self.app, base_url=address, raise_server_exceptions=False)
        if user is not None:
            client.log_in(user, PASSWORDS[user])
        return client


class Client(TestClient):
    """A browser that states its session's token."""

    def log_in(self, user: str, password: str) -> Any:
        answer = self.post("/api/login", json={"user": user, "password": password})
        if answer.status_code == 200:
            self.headers["X-CSRF-Token"] = answer.json()["csrf"]
        return answer


def station_file(folder: Path, status: StatusConfig | None = None, **hmi: Any) -> StationFile:
    """A configuration whose files lie in a folder."""
    return StationFile(
        jobs={"1": JobConfig(bundle=folder / "part.rdx")},
        camera=CameraConfig("still", folder / "frame.png"),
        records=RecordConfig(folder / "records.sqlite", pictures=folder / "pictures"),
        status=status,
        hmi=HmiConfig(users=folder / "users.json", **hmi),
        retrain={
            "1": RetrainConfig(
                folder / "run", folder / "good", folder / "calibration", folder / "frozen"
            )
        },
    )


def open_page(folder: Path, **hmi: Any) -> Page:
    """The page of a station in a folder, with an operator and an engineer."""
    file = station_file(folder, **hmi)
    users, clock = Users(folder / "users.json", n=2), Clock()
    for name, password in PASSWORDS.items():
        users.add(name, ROLES[name], password)
    return Page(create_app(file, "line 1", users, clock), folder, users, clock, file)
