"""What people say of parts: labels, the queue of parts that wait for one, and quality figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rdx_fast.bundle.versions import list_versions
from rdx_fast.errors import BundleError
from rdx_fast.hmi.access import Access, ApiRoute, Call, get, post
from rdx_fast.hmi.data import StationData
from rdx_fast.hmi.part_forms import LabelForm, QualityQuery, QueueQuery
from rdx_fast.hmi.part_json import Shown, may_be_labelled
from rdx_fast.hmi.refusal import Refused
from rdx_fast.station.config import StationFile
from rdx_fast.station.records.labels import add_label, read_labels
from rdx_fast.station.records.quality import Kind, quality_of
from rdx_fast.station.records.queue import read_queue
from rdx_fast.station.records.read import count_records, has_records, read_records
from rdx_fast.wording import plain


def routes(data: StationData, file: StationFile) -> list[ApiRoute]:
    """Routes of labels."""
    api = _LabelsApi(data, file)
    return [
        post("/api/parts/{id:id}/label", Access.OPERATOR, api.label, LabelForm),
        get("/api/queue", Access.VIEW, api.queue, query=QueueQuery, renews=False),
        get("/api/quality", Access.VIEW, api.quality, query=QualityQuery),
    ]


class _LabelsApi:
    def __init__(self, data: StationData, file: StationFile) -> None:
        assert file.hmi is not None
        self._data, self._bundles = data, file.bundles
        self._pictures = file.records.pictures
        self._reasons = {"good": file.hmi.good_reasons, "bad": file.hmi.bad_reasons}

    def label(self, call: Call, form: LabelForm) -> object:
        """Say what a part really is."""
        reasons = self._reasons[form.verdict]
        if form.reason not in reasons:
            raise Refused(
                400,
                "bad_request",
                f"reason is {form.reason[:40]!r}, wanted one of {', '.join(reasons)}",
            )
        record = self._data.record(call.path["id"])
        if not may_be_labelled(record):
            raise Refused(
                409,
                "not_to_label",
                f"inspection {record.inspection_id} is {record.result} and not of the random "
                f"sample: label parts that are REVIEW, NG or sampled",
            )
        comment = plain(form.comment)
        verdict: Any = form.verdict
        add_label(self._data.path, record.inspection_id, call.user, verdict, form.reason, comment)
        return {"part": self._data.described([record], lambda *_: Shown.LABELS)[0]}

    def queue(self, call: Call, query: QueueQuery) -> object:
        """Parts that wait for a label of the user, the newest first."""
        if not has_records(self._data.path):
            return {"parts": [], "waiting": 0}
        user = "" if call.session is None else call.user
        found, waiting = read_queue(self._data.path, self._pictures, user, query.limit)
        parts = self._data.described(found, lambda *_: Shown.NOTHING)
        return {"parts": parts, "waiting": waiting}

    def quality(self, call: Call, query: QualityQuery) -> object:
        """Quality figures of a job, or of all, in a time."""
        again, compared = self._again_rejected(query.job)
        told = {"job": query.job, "compared": compared}
        if not has_records(self._data.path):
            return told | asdict(quality_of({}, {}, []))
        path = self._data.path
        counts = {Kind(*kind): n for kind, n in count_records(path, query.filter()).items()}
        labelled = {
            of.inspection_id: Kind(of.result, bool(of.sampled))
            for of in read_records(path, query.filter(labelled=True))
        }
        labels = read_labels(path, {*labelled, *again})
        return told | asdict(quality_of(counts, labelled, labels, again))

    def _again_rejected(self, job: int | None) -> tuple[set[int], list[dict[str, Any]]]:
        """What the released bundles' comparisons name, of a job or of all; and of each comparison
        its job and time, and whether the bundle is still as it was compared."""
        found: set[int] = set()
        compared = []
        for number, bundle in self._bundles.items():
            if job not in (None, number):
                continue
            try:
                released = list_versions(bundle)[0]
            except BundleError:
                continue  # says the view of the job
            comparison = released.comparison or {}
            found |= {part["inspection_id"] for part in comparison.get("again_rejected", ())}
            if "time" in comparison:
                of = {"job": number, "time": comparison["time"]}
                compared.append(of | {"current": released.comparison_current})
        return found, compared
