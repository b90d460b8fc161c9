"""Jobs: bundles with versions, limits and regions; the log of changes."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Lock

from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.bundle.changes import check_recipe, override_limits, replace_recipe
from rdx_fast.bundle.versions import (
    find_version,
    list_versions,
    manifest_sha256,
    new_candidate,
    release,
    remove_versions,
)
from rdx_fast.errors import DatasetError
from rdx_fast.hmi.access import MAX_BODY, Access, ApiRoute, Call, get, post
from rdx_fast.hmi.calibration import Calibration, calibrate_apart
from rdx_fast.hmi.context import Context
from rdx_fast.hmi.job_forms import (
    AuditQuery,
    DiscardForm,
    JobForm,
    LimitsForm,
    RegionsForm,
    ReleaseForm,
)
from rdx_fast.hmi.job_view import describe_job, describe_regions, present_limits
from rdx_fast.hmi.refusal import Refused, not_found
from rdx_fast.hmi.regions import calibration_wish, check_images, recipe_with
from rdx_fast.hmi.tasks import OnProgress
from rdx_fast.images import list_images
from rdx_fast.station.records.changes import change_lines, checked_changes
from rdx_fast.station.records.entered import entered
from rdx_fast.station.records.store import RecordError
from rdx_fast.station.status_client import StatusClient, StatusError


def routes(context: Context) -> list[ApiRoute]:
    """Routes of jobs and of the log of changes."""
    api = _JobsApi(context)
    return [
        get("/api/jobs/{job:id}", Access.VIEW, api.job, renews=False),
        post("/api/jobs/{job:id}/limits", Access.ENGINEER, api.limits, LimitsForm),
        post("/api/jobs/{job:id}/regions", Access.ENGINEER, api.regions, RegionsForm, MAX_BODY),
        post("/api/jobs/{job:id}/release", Access.ENGINEER, api.release, ReleaseForm),
        post("/api/jobs/{job:id}/discard", Access.ENGINEER, api.discard, DiscardForm),
        post("/api/job", Access.ENGINEER, api.select, JobForm),
        get("/api/audit", Access.ENGINEER, api.audit, query=AuditQuery),
    ]


class _JobsApi:
    def __init__(self, context: Context) -> None:
        self._context = context
        # Of two changes at once, the second must start from what the first released.
        self._changing: defaultdict[int, Lock] = defaultdict(Lock)

    def job(self, call: Call) -> object:
        """What a job's bundle is, its versions and its history."""
        job, bundle = self._of(call)
        return describe_job(job, bundle) | {
            **self._held_by_station(job),
            "running": self._context.tasks.describe(job, with_folders=call.is_engineer),
        }

    def limits(self, call: Call, form: LimitsForm) -> object:
        """Set limits by hand, in a new version that is released at once."""
        job, bundle = self._of(call)
        hmi, file = self._context.hmi, self._context.file
        facts = {"job": job, "region": form.region, "executed": form.executed}
        with self._changing[job], ExitStack() as until_released:
            with new_candidate(bundle) as copy:
                base = manifest_sha256(copy)
                _check_base(base, form.base)
                opened = open_bundle(copy, file.public_key)
                present = present_limits(opened.manifest, form.region, form.executed)
                ok, ng = present or (None, None)
                override_limits(
                    opened,
                    form.reason,
                    # What stays as it is keeps its origin.
                    ok_below=None if form.ok_below == ok else form.ok_below,
                    ng_above=None if form.ng_above == ng else form.ng_above,
                    region=form.region,
                    executed=form.executed,
                    user=call.user,
                    sign_key=hmi.sign_key,
                )
                sha256 = manifest_sha256(copy)
                entry = entered(
                    self._context.changes,
                    "limits",
                    call.user,
                    facts | {"ok_below": ok, "ng_above": ng},
                    facts
                    | {"ok_below": form.ok_below, "ng_above": form.ng_above}
                    | {"reason": form.reason, "sha256": sha256},
                    made=lambda: manifest_sha256(bundle) == sha256,
                )
                until_released.enter_context(entry)  # else there is no candidate either
            release(bundle, sha256, file.public_key, over=base)
        return self.job(call)

    def regions(self, call: Call, form: RegionsForm) -> object:
        """Begin a candidate with other regions, whose limits are calibrated in the background."""
        job, bundle = self._of(call)
        context, user = self._context, call.user
        context.tasks.check_free(job)
        _check_base(manifest_sha256(bundle), form.base)
        file, good = context.file, self._calibration_images(job)
        opened = open_bundle(bundle, file.public_key)
        recipe = recipe_with(opened.manifest.recipe, form, good[0])
        check_recipe(opened, recipe, {})
        wish = calibration_wish(opened.manifest, form.false_reject)
        check_images(len(good), wish, len(recipe.inspected))

        def work(on_progress: OnProgress) -> None:
            with ExitStack() as until_named, new_candidate(bundle) as copy:
                before = open_bundle(copy, file.public_key)
                base = manifest_sha256(copy)
                replace_recipe(before, recipe, {}, user, context.hmi.sign_key)
                wanted = Calibration(
                    copy,
                    tuple(good),
                    wish,
                    user,
                    file.backend,
                    file.precision,
                    file.public_key,
                    context.hmi.sign_key,
                )
                calibrate_apart(wanted, on_progress)
                regions = describe_regions(before.manifest.recipe)
                entry = entered(
                    context.changes,
                    "regions",
                    user,
                    {"job": job, "regions": regions, "sha256": base},
                    {"job": job, "regions": describe_regions(recipe)}
                    | {"sha256": manifest_sha256(copy)},
                )
                until_named.enter_context(entry)

        context.tasks.start(job, "regions", user, work)
        return self.job(call)

    def release(self, call: Call, form: ReleaseForm) -> object:
        """Put another version in the released one's place."""
        job, bundle = self._of(call)
        with self._changing[job]:
            find_version(bundle, form.sha256)  # nothing is entered of one that there is not
            present = manifest_sha256(bundle)
            _check_base(present, form.base)
            facts = {"job": job, "sha256": form.sha256}
            with entered(
                self._context.changes,
                "release",
                call.user,
                facts | {"sha256": present},
                facts,
                made=lambda: manifest_sha256(bundle) == form.sha256,
            ):
                release(bundle, form.sha256, self._context.file.public_key, over=form.base)
        return self.job(call)

    def discard(self, call: Call, form: DiscardForm) -> object:
        """Remove a candidate."""
        job, bundle = self._of(call)
        with self._changing[job]:
            if find_version(bundle, form.sha256).state != "candidate":
                raise Refused(409, "no_candidate", "this version is no candidate any more")
            with entered(
                self._context.changes,
                "release",
                call.user,
                {"job": job},
                {"job": job, "removed": [form.sha256]},
                made=lambda: form.sha256 not in {of.sha256 for of in list_versions(bundle)},
            ):
                remove_versions(bundle, [form.sha256])
        return self.job(call)

    def select(self, call: Call, form: JobForm) -> object:
        """Have the station select a job, or change over to the released version of it."""
        context = self._context
        if form.job not in context.file.bundles:
            raise not_found(f"job {form.job}")
        if context.file.status is None:
            raise Refused(
                409, "no_status", "the configuration has no table [status]: add one for this"
            )
        # Not the shared client: the station opens the bundle before it answers.
        station = StatusClient(context.file.status.socket)
        try:
            before = {"job": station.status()["active_job"]}  # of one that answers
            with entered(context.changes, "job", call.user, before, {"job": form.job}):
                station.select_job(form.job)
        except StatusError as error:
            raise Refused(409, "station_away", str(error)) from None
        finally:
            station.close()
        return {"done": True}

    def audit(self, call: Call, query: AuditQuery) -> object:
        """The newest changes, and whether the chain of all is whole."""
        path = self._context.file.records.path
        lines = change_lines(path)
        try:
            changes = checked_changes(lines, path)
        except RecordError as error:
            return {"changes": [], "chain": str(error)}
        shown = [
            {name: getattr(of, name) for name in ("time", "user", "action", "before", "after")}
            for of in reversed(changes[-query.last :])
        ]
        return {"changes": shown, "chain": "ok"}

    def _of(self, call: Call) -> tuple[int, Path]:
        """Id and bundle of the job that the path names."""
        job: int = call.path["job"]
        bundle = self._context.file.bundles.get(job)
        if bundle is None:
            raise not_found(f"job {job}")
        return job, bundle

    def _held_by_station(self, job: int) -> dict[str, str | None]:
        """SHA-256 of the manifest that the station holds open, and which of its executions; None if
        it cannot be asked."""
        held = None
        if self._context.station is not None:
            with suppress(StatusError):
                held = self._context.station.status()["jobs"].get(str(job))
        names = {"open_sha256": "sha256", "open_execution": "execution"}
        return {name: held and held[of] for name, of in names.items()}

    def _calibration_images(self, job: int) -> list[Path]:
        stated = self._context.file.retrain.get(str(job))
        if stated is None:
            raise DatasetError(
                f"the limits of other regions are calibrated on images of good parts: name their "
                f"folder as calibration in the table [retrain.{job}] of the configuration, and "
                f"start the page's server again"
            )
        return list_images(stated.calibration)


def _check_base(released: str, base: str | None) -> None:
    """Raises ``Refused`` if another version is released than when a form was opened."""
    if base not in (None, released):
        raise Refused(
            409,
            "changed_meanwhile",
            "another version was released since you opened this: look at it, and enter it again",
        )
