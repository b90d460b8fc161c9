"""The command ``release``: lists the versions of a bundle, and releases one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from rdx_fast.bundle import versions
from rdx_fast.bundle.history import system_user
from rdx_fast.bundle.versions import (
    Version,
    earlier_versions,
    list_versions,
    manifest_sha256,
    remove_versions,
)
from rdx_fast.cli.common import JsonFlag, data, notes
from rdx_fast.errors import BundleError, listed
from rdx_fast.station.config import StationFile, read_station
from rdx_fast.station.records.changes import ChangeLog
from rdx_fast.station.records.entered import entered
from rdx_fast.station.status_client import StatusClient, StatusError


def release(
    bundle: Annotated[Path, typer.Argument(help="The job's engine bundle.")],
    sha256: Annotated[
        str | None,
        typer.Argument(help="Version to release, by the start of its SHA-256. Default: list them."),
    ] = None,
    station: Annotated[
        Path | None,
        typer.Option(
            help="The station's configuration: the release is entered in its log of changes, and "
            "the version must be signed if the station demands it."
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Afterwards, remove all previous versions but the N that were released last. What "
            "the station of --station has open stays.",
        ),
    ] = None,
    remove: Annotated[
        str | None,
        typer.Option(
            metavar="SHA256", help="Remove this version, such as a candidate that is not wanted."
        ),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Who does it. Default: the system's user.")
    ] = None,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway",
            help="Release a candidate that was made before the released bundle was changed, too: "
            "these changes are undone.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the versions of a bundle (released, candidates, previous ones), or release or remove
    some."""
    there = list_versions(bundle)
    file = None if station is None else read_station(station)
    jobs = [] if file is None else _jobs_of(file, bundle)
    if file is not None and not jobs:
        raise typer.BadParameter(f"{station} has no job with the bundle {bundle}")
    entering = _Entering(file, jobs, user or system_user())
    if sha256 is not None:
        _release(bundle, there, sha256, entering, anyway)
    if keep is not None or remove is not None:
        _remove(bundle, keep, remove, entering)
    if (sha256, keep, remove) == (None, None, None):
        if as_json:
            print(json.dumps([asdict(v) | {"path": str(v.path)} for v in there], indent=2))
        else:
            data.print(_table(there))


@dataclass(frozen=True)
class _Entering:
    """The station in whose log changes of a bundle are entered; none without a file."""

    file: StationFile | None
    jobs: list[int]
    user: str

    @contextmanager
    def of(
        self, before: dict[str, Any], after: dict[str, Any], made: Callable[[], bool]
    ) -> Iterator[None]:
        """Enter a change for each job, which the body makes."""
        with ExitStack() as stack:
            for job in self.jobs:
                assert self.file is not None
                log, facts = ChangeLog(self.file.records.path), {"job": job}
                entry = entered(log, "release", self.user, facts | before, facts | after, made)
                stack.enter_context(entry)
            yield

    def used(self) -> set[str]:
        """SHA-256 of the bundles that the station has open; none if it is not running."""
        if self.file is None or self.file.status is None:
            return set()
        client = StatusClient(self.file.status.socket)
        try:
            return {held["sha256"] for held in client.status()["jobs"].values()}
        except StatusError:
            return set()
        finally:
            client.close()


def _release(
    bundle: Path, there: Sequence[Version], start: str, entering: _Entering, anyway: bool
) -> None:
    chosen, file = _the_one(there, start, bundle), entering.file
    if chosen == there[0]:
        _note(f"{chosen.sha256[:12]} is released already: nothing was changed")
        return
    if chosen.outdated and not anyway:
        raise BundleError(_outdated(chosen))
    with entering.of(
        {"sha256": there[0].sha256},
        {"sha256": chosen.sha256},
        made=lambda: manifest_sha256(bundle) == chosen.sha256,
    ):
        key = None if file is None else file.public_key
        versions.release(bundle, chosen.sha256, key, over=there[0].sha256)
    _note(
        f"released {chosen.sha256[:12]} ({chosen.action} by {chosen.user}); before: "
        f"{there[0].sha256[:12]}. A station changes over when the job is selected next"
    )
    if file is None:
        _note("this is entered in no log of changes: name the station's configuration (--station)")


def _remove(bundle: Path, keep: int | None, start: str | None, entering: _Entering) -> None:
    there, used = list_versions(bundle), entering.used()
    earlier = [] if keep is None else earlier_versions(bundle, keep)
    gone = [of for of in earlier if of.sha256 not in used]
    if start is not None:
        chosen = _the_one(there, start, bundle)
        if chosen.sha256 in used:
            raise BundleError(f"{bundle}: the station has version {chosen.sha256[:12]} open")
        gone = [*(of for of in gone if of != chosen), chosen]
    sha256s = [of.sha256 for of in gone]
    if sha256s:
        with entering.of(
            {},
            {"removed": sha256s},
            made=lambda: not {of.sha256 for of in list_versions(bundle)} & {*sha256s},
        ):
            remove_versions(bundle, sha256s)
    names = ", ".join(sha256[:12] for sha256 in sha256s) or "nothing"
    _note(f"removed: {names}")


def _note(text: str) -> None:
    notes.print(text, markup=False, highlight=False)


def _the_one(there: Sequence[Version], start: str, bundle: Path) -> Version:
    found = {version.sha256: version for version in there if version.sha256.startswith(start)}
    if len(found) != 1:
        raise BundleError(
            f"{bundle}: {len(found) or 'no'} versions begin with {start!r}: choose one of "
            f"{', '.join(version.sha256[:12] for version in there)}"
        )
    return next(iter(found.values()))


def _outdated(chosen: Version) -> str:
    """Why a candidate is not released without being asked for twice."""
    undone = [f"{of.action} by {of.user}, {of.time[:19]} UTC" for of in chosen.lacks]
    return (
        f"{chosen.path} was made before the released bundle was changed last, and its release "
        f"undoes {len(undone)} changes: make a candidate of the released bundle again, or release "
        f"this one with --anyway:{listed(undone)}"
    )


def _jobs_of(file: StationFile, bundle: Path) -> list[int]:
    wanted = bundle.resolve()
    return [job for job, path in file.bundles.items() if path.resolve() == wanted]


def _table(there: Sequence[Version]) -> Table:
    table = Table(
        title="Versions",
        title_justify="left",
        caption="AUROC on the frozen set in percent; verdicts there: old -> new",
    )
    for column in ("state", "SHA-256", "changed, UTC", "by", "AUROC", "false rejects", "escapes"):
        table.add_column(column)
    for version in there:
        time = version.changed[:19].replace("T", " ")
        who = f"{version.action}, {version.user}"
        current = version.comparison if version.comparison_current else None
        figures = _figures((current or {}).get("frozen"))
        table.add_row(version.state, version.sha256[:12], time, escape(who), *figures)
    return table


def _figures(frozen: dict[str, Any] | None) -> tuple[str, str, str]:
    if frozen is None:
        return "-", "-", "-"
    auroc = frozen["auroc"]
    shown = "-" if auroc is None else f"{100 * auroc['old']:.2f} -> {100 * auroc['new']:.2f}"
    rejects, escapes = (
        f"{frozen['old'][name]} -> {frozen['new'][name]} of {frozen[of]}"
        for name, of in (("false_rejects", "good"), ("escapes", "bad"))
    )
    return shown, rejects, escapes
