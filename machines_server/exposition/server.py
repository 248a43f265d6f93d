"""The server's own series; imported at the first scrape, since prometheus_client takes 11 MiB."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from machines_server.contract.health import Health
from machines_server.core.poller_counts import CYCLE_BOUNDS_S, HistoryBacklog, PollerCounts
from machines_server.counts.columns import LATENCY_BOUNDS_S
from machines_server.counts.counts import Totals
from machines_server.store.values import StoreSizes

SERVER_PREFIX = "machines_server_"
_POLLER_STATES = ("running", "stalled", "stopped")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server knows about itself at `now` (epoch seconds); None is unknown."""

    now: float
    health: Health
    totals: Totals
    routes: Sequence[str]
    auth_mode: str
    last_cycle_at: float | None
    poller: PollerCounts | None
    sizes: StoreSizes
    due_rollups: int | None
    active_leases: int | None


def server_text(facts: ServerFacts) -> bytes:
    """The series as text of version 0.0.4."""
    return generate_latest(_Facts(facts))


class _Facts(Collector):
    """Yields the metrics of one moment."""

    def __init__(self, facts: ServerFacts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        yield from self._of_health()
        if self._facts.poller is not None:
            yield from _of_poller(self._facts.poller)
        yield from self._of_store()
        yield from self._of_leases()
        refusals = CounterMetricFamily(
            f"{SERVER_PREFIX}auth_refusals",
            "Requests without a valid signature: refused (mode enforce), or only reported (observe).",
            labels=("mode", "reason"),
        )
        for reason, number in self._facts.totals.of("auth_refusals").items():
            if self._facts.auth_mode != "off":
                refusals.add_metric((self._facts.auth_mode, reason), number)
        yield from _unless_empty(refusals)
        yield from self._of_requests()

    def _of_health(self) -> Iterator[Metric]:
        health, now = self._facts.health, self._facts.now
        info = InfoMetricFamily(f"{SERVER_PREFIX}build", "Version of the server.")
        info.add_metric([], {"version": health.version})
        yield info
        about = "Whether the machines are polled: 1 for the current state, 0 for the others."
        poller = GaugeMetricFamily(f"{SERVER_PREFIX}poller_state", about, labels=("state",))
        for state in _POLLER_STATES:
            poller.add_metric((state,), int(state == health.poller.state))
        yield poller
        about = "Whether the databases can be read and written: 1 or 0."
        yield _gauge("store_ok", about, int(health.store.state == "ok"))
        yield _gauge("poll_interval_seconds", "Time between two poll cycles.", health.poller.interval_s)
        if self._facts.last_cycle_at is not None:
            age_s = max(now - self._facts.last_cycle_at, 0.0)
            yield _gauge("last_cycle_age_seconds", "Time since the latest poll cycle finished.", age_s)

    def _of_store(self) -> Iterator[Metric]:
        facts = self._facts
        yield from _gauges("store_size_bytes", "Size of a database.", facts.sizes.databases)
        about = "Size of the write-ahead log of a database, which is not part of its size."
        yield from _gauges("store_wal_size_bytes", about, facts.sizes.logs)
        if facts.due_rollups is not None:
            yield _gauge("rollups_due", "Rollups that are due and not yet computed.", facts.due_rollups)

    def _of_leases(self) -> Iterator[Metric]:
        changes = self._facts.totals.of("leases")
        if self._facts.active_leases is not None:
            yield _gauge("leases_active", "Leases in force.", self._facts.active_leases)
        yield _counter("leases_granted", "Leases granted.", changes["granted"])
        yield _counter("leases_expired", "Leases that ended without being released.", changes["expired"])
        refusals = CounterMetricFamily(
            f"{SERVER_PREFIX}lease_refusals", "Lease requests that were refused.", labels=("reason",)
        )
        for reason, number in self._facts.totals.of("lease_refusals").items():
            refusals.add_metric((reason,), number)
        yield refusals

    def _of_requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            f"{SERVER_PREFIX}requests", "Requests that were answered.", labels=("method", "route", "status")
        )
        durations = HistogramMetricFamily(
            f"{SERVER_PREFIX}request_duration_seconds",
            "Time from the headers of a request to the end of its answer, including any requested wait.",
            labels=("method", "route"),
        )
        for of in self._facts.totals.requests():
            labels = of.method, self._facts.routes[of.route]
            for status, number in of.by_status.items():
                requests.add_metric((*labels, status), number)
            durations.add_metric(labels, _buckets(LATENCY_BOUNDS_S, of.buckets), of.total_s)
        yield from _unless_empty(requests)
        yield from _unless_empty(durations)


def _of_poller(counts: PollerCounts) -> Iterator[Metric]:
    cycles = HistogramMetricFamily(f"{SERVER_PREFIX}cycle_duration_seconds", "How long poll cycles took.")
    cycles.add_metric([], _buckets(CYCLE_BOUNDS_S, counts.cycles), counts.cycles_s)
    yield cycles
    polls = CounterMetricFamily(f"{SERVER_PREFIX}polls", "Polls of endpoints.", labels=("endpoint",))
    for kind, number in counts.polls.items():
        polls.add_metric((kind,), number)
    yield from _unless_empty(polls)
    failures = CounterMetricFamily(
        f"{SERVER_PREFIX}poll_failures",
        "Polls that failed, or could not be sent.",
        labels=("endpoint", "reason"),
    )
    for kind, reasons in counts.failures.items():
        for reason, number in reasons.items():
            failures.add_metric((kind, reason), number)
    yield from _unless_empty(failures)
    backlog = counts.backlog
    yield _gauge(
        "store_lag_seconds",
        "How long the last written results had waited, or how long the next ones have waited so far.",
        backlog.lag_s,
    )
    yield _gauge("store_waiting_items", "Results that wait to be written.", backlog.waiting)
    about = "Results that were dropped because too many waited to be written."
    yield _counter("store_dropped_items", about, backlog.dropped)
    if counts.shards is not None:
        yield _gauge("shards", "Shards of the machines that this server polls, of 256.", counts.shards)
    if backlog.history is not None:
        yield from _of_history(backlog.history)


def _of_history(history: HistoryBacklog) -> Iterator[Metric]:
    yield _gauge("history_waiting_samples", "Samples that wait to be sent to the engine.", history.waiting)
    yield _counter("history_sent_samples", "Samples that the engine has accepted.", history.sent)
    dropped = CounterMetricFamily(
        f"{SERVER_PREFIX}history_dropped_samples", "Samples that were not kept.", labels=("reason",)
    )
    for reason, number in history.dropped.items():
        dropped.add_metric((reason,), number)
    yield from _unless_empty(dropped)


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Accumulated counts by upper bound."""
    names = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    return list(zip(names, map(float, accumulate(counts)), strict=True))


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(SERVER_PREFIX + name, about, value=value)


def _gauges(name: str, about: str, by_database: Mapping[str, int]) -> Iterable[Metric]:
    family = GaugeMetricFamily(SERVER_PREFIX + name, about, labels=("database",))
    for database, value in by_database.items():
        family.add_metric((database,), value)
    return _unless_empty(family)


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(SERVER_PREFIX + name, about, value=value)


def _unless_empty(family: Metric) -> Iterator[Metric]:
    if family.samples:
        yield family
