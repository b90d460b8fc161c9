"""Prometheus metrics. The only file that imports prometheus_client."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import TracebackType

from rdx_fast.errors import MissingDependencyError
from rdx_fast.station.drift import DriftWatch
from rdx_fast.station.handshake.signals import Status
from rdx_fast.station.interfaces import MetricsConfig
from rdx_fast.station.records.store import InspectionRecord
from rdx_fast.station.station import Station, StationError

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as _error:
    if _error.name != "prometheus_client":
        raise
    raise MissingDependencyError("prometheus-client", "the station's metrics", "station") from None

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
# Of scores as multiples of their OK limit: the limit itself is a bound.
_SCORE_BUCKETS = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_GAUGES = {
    "online": "Whether the station accepts triggers",
    "trigger_ready": "Whether a trigger would start an inspection now",
    "waiting": "Inspections not yet shown to the PLC",
    "active_job": "Id of the active job",
    "link_lost": "Whether the PLC's heartbeat has stopped",
    "record_alarm": "Whether records or pictures cannot be written",
    "drift": "Whether brightness, sharpness or scores have changed",
    "error": "Error code of the active alarm, 0 for none",
}
_COUNTERS = {
    "triggers": "Trigger edges received",
    "answered": "Results acknowledged",
    "missed": "Triggers that came too early to be inspected",
}


class StationMetrics:
    """Serves Prometheus metrics at ``/metrics`` over HTTP.

    A context manager: listens inside the ``with``. Create it before the station is started.

    Args:
        station: the station to report on
        config: address and port

    Raises:
        StationError: on entry, if the port cannot be opened
    """

    def __init__(self, station: Station, config: MetricsConfig) -> None:
        self._config = config
        self.registry = CollectorRegistry()
        self._results = Counter(
            "rdx_fast_results", "Results shown", ["result", "error", "job"], registry=self.registry
        )
        self._seconds = Histogram(
            "rdx_fast_inspection_seconds",
            "Duration of the stages of an inspection; decided is measured from the trigger",
            ["stage"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._scores = Histogram(
            "rdx_fast_score_ratio",
            "Anomaly score as a multiple of the OK limit",
            ["job"],
            buckets=_SCORE_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(_StatusCollector(station))
        station.listen(on_result=self._count)

    def _count(self, record: InspectionRecord) -> None:
        self._results.labels(record.result, record.error or "", str(record.job)).inc()
        if record.score is not None and record.threshold:
            self._scores.labels(str(record.job)).observe(record.score / record.threshold)
        stages = {
            "decided": record.decided_ms,
            "grab": record.grab_ms,
            "score": record.score_ms,
        }
        for stage, length_ms in stages.items():
            if length_ms is not None:
                self._seconds.labels(stage).observe(length_ms / 1000)

    @property
    def port(self) -> int:
        """The TCP port that the server listens on."""
        return self._server.server_port

    def __enter__(self) -> StationMetrics:
        config = self._config
        try:
            self._server, self._thread = start_http_server(
                config.port, config.address, registry=self.registry
            )
        except OSError as error:
            raise StationError(
                f"metrics cannot listen on {config.address}:{config.port}: {error}: free the port "
                f"or choose another one in the configuration"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _StatusCollector(Collector):
    """Reads the status at each scrape."""

    def __init__(self, station: Station) -> None:
        self._station = station

    def collect(self) -> Iterator[Metric]:
        status: Status = self._station.status
        for name, meaning in _GAUGES.items():
            value = float(getattr(status, name))
            yield GaugeMetricFamily(f"rdx_fast_{name}", meaning, value=value)
        for name, meaning in _COUNTERS.items():
            value = float(getattr(status.counts, name))
            yield CounterMetricFamily(f"rdx_fast_{name}", meaning, value=value)
        if self._station.drift is not None:
            yield from _drift_metrics(self._station.drift)


def _drift_metrics(drift: DriftWatch) -> Iterator[Metric]:
    meaning = "Decimal logarithm of the evidence of a change, relative to what raises the alarm"
    evidence = GaugeMetricFamily("rdx_fast_drift_log10", meaning, labels=["job", "signal"])
    for (job, signal), statistic in drift.statistics.items():
        if statistic > 0:
            evidence.add_metric([str(job), signal], math.log10(statistic / drift.limit))
    yield evidence
