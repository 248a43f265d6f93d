"""Answers about the past: series, events, availability, models."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from msgspec import structs

from machines_server.contract.events import Events, event
from machines_server.contract.history import (
    Availability,
    FleetAvailability,
    LastLoaded,
    MachineAvailability,
    Model,
    Models,
    machine_availability,
)
from machines_server.contract.history_queries import (
    AvailabilityQuery,
    EventsQuery,
    FleetSeriesQuery,
    ModelsQuery,
    SeriesQuery,
)
from machines_server.core.machine import Registry
from machines_server.core.model_names import canonical
from machines_server.core.past.availability import PolledTime, availability
from machines_server.core.past.series import SeriesRange
from machines_server.core.routing.similar_names import similar_names
from machines_server.core.text import quoted
from machines_server.core.times import LATEST_S, rfc3339
from machines_server.errors import UnknownMachineError
from machines_server.services.series_plan import SeriesPlan
from machines_server.store.api import Past
from machines_server.store.values import KnownMachine, Residency, Retention


class HistoryService:
    """Answers from the store, even about machines without a file.

    Every method raises BadParameterError, UnknownMachineError, and the store's StoreError or TooMuchError.
    """

    def __init__(
        self,
        past: Past,
        registry: Callable[[float], Registry],
        retention: Retention,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` returns the time by the clock of the past, which may be another server's."""
        self._past, self._registry, self._now = past, registry, now
        self._kept_s = retention.by_tier

    def fault(self) -> str | None:
        """Why the store failed to answer the last query, if that was recent."""
        return self._past.fault()

    def machine_series(self, name: str, query: SeriesQuery) -> SeriesRange:
        """Metrics of one machine over a range, in whole steps."""
        return self._series([name], query, self._now())

    def series(self, query: FleetSeriesQuery) -> SeriesRange:
        """Metrics of several machines over a range, in the same whole steps."""
        now = self._now()
        return self._series(query.machine or self._past.machine_names(*query.range(now)), query, now)

    def events(self, query: EventsQuery) -> Events[dict[str, object]]:
        """A page of events."""
        from_at, to_at = query.range(self._now(), default_from="0", default_to=rfc3339(LATEST_S))
        types, limit, after, before = query.types(), query.limit_number(), query.after_id(), query.before_id()
        machines = [machine.name for machine in self._known(query.machine)]
        rows, is_truncated, newest = self._past.events(
            machines, types, from_at, to_at, limit, after=after, before=before
        )
        last = rows[-1].id if after is None and rows else max((row.id for row in rows), default=None)
        return Events(
            [event(row.id, row.at, row.machine, row.type, row.detail) for row in rows],
            next=last if is_truncated else None,
            truncated=is_truncated,
            newest=newest,
        )

    def machine_availability(self, name: str, query: AvailabilityQuery) -> Availability:
        """How long a machine had each status within a range."""
        from_at, to_at = query.range(self._now())
        machine = self._machine(name).name
        (found,) = self._availabilities([machine], machine, from_at, to_at)
        return Availability(from_=rfc3339(from_at), to=rfc3339(to_at), **structs.asdict(found))

    def availability(self, query: AvailabilityQuery) -> FleetAvailability:
        """How long each machine had each status within a range, the least reliable first."""
        from_at, to_at = query.range(self._now())
        names = self._past.machine_names(from_at, to_at)
        found = sorted(
            self._availabilities(names, None, from_at, to_at),
            key=lambda one: (-one.outages, -one.seconds.offline, one.machine.casefold()),
        )
        return FleetAvailability(from_=rfc3339(from_at), to=rfc3339(to_at), machines=found)

    def models(
        self,
        query: ModelsQuery,
        loaded: Mapping[str, Sequence[str]],
        on_disk: Mapping[str, Sequence[str]],
    ) -> Models:
        """Every model; `loaded` has what each machine holds in memory now, `on_disk` what it could load."""
        now = self._now()
        from_at, to_at = query.range(now)
        models: dict[str, _Model] = {}

        def model_named(name: str) -> _Model:
            return models.setdefault(canonical(name) or name, _Model(name))

        for machine in self._registry(time.time()):
            for name in machine.models:
                model_named(name).declared.append(machine.name)
        for machine_name, names in on_disk.items():
            for name in names:
                model_named(name).on_disk.append(machine_name)
        for machine_name, names in loaded.items():
            for name in names:
                model_named(name).loaded.append(machine_name)
                if to_at >= now:
                    model_named(name).resident_on.add(machine_name)
        for row in sorted(self._past.residency(from_at, to_at), key=lambda row: row.last_seen):
            model_named(row.model).add(row)
        answers = [model.answer() for model in sorted(models.values(), key=lambda model: model.name)]
        return Models(models=answers, from_=rfc3339(from_at), to=rfc3339(to_at))

    def _series(self, names: Sequence[str], query: SeriesQuery, now: float) -> SeriesRange:
        plan = SeriesPlan(query, self._known(names), now, self._kept_s)
        return plan.answer(self._past.series(plan.keys, plan.from_s, plan.to_s, plan.step_s))

    def _availabilities(
        self, names: Iterable[str], machine: str | None, from_at: float, to_at: float
    ) -> Iterator[MachineAvailability]:
        """The availability of each of `names`; `machine` is the only one of them, or None for several."""
        polled = PolledTime(self._past.poll_spans(from_at, to_at))
        changes = groupby(self._past.statuses(machine, from_at, to_at), lambda change: change.machine)
        found = {
            name: availability(((at, status) for _, at, status in some), polled, from_at, to_at)
            for name, some in changes
        }
        for name in names:
            yield machine_availability(name, found.get(name) or availability((), polled, from_at, to_at))

    def _known(self, names: Iterable[str]) -> list[KnownMachine]:
        """These machines, each once."""
        return [self._machine(name) for name in {name.casefold(): name for name in names}.values()]

    def _machine(self, name: str) -> KnownMachine:
        machine = self._past.machine(name)
        if machine is None:
            similar = similar_names(name, self._past.machine_names(0, LATEST_S))
            message = f"There is no machine named {quoted(name)}, and there never was."
            raise UnknownMachineError(message, similar)
        return machine


@dataclass(slots=True)
class _Model:
    """A model whose answer is being assembled."""

    name: str
    declared: list[str] = field(default_factory=list)
    on_disk: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    last_loaded: LastLoaded | None = None
    residency_s: float = 0.0
    resident_on: set[str] = field(default_factory=set)

    def add(self, row: Residency) -> None:
        """Add a machine, after those that had the model in memory earlier."""
        self.last_loaded = LastLoaded(row.machine, rfc3339(row.last_seen))
        self.residency_s = round(self.residency_s + row.resident_s, 3)
        if row.resident_s > 0:
            self.resident_on.add(row.machine)

    def answer(self) -> Model:
        return Model(
            self.name,
            self.declared,
            self.on_disk,
            self.loaded,
            self.last_loaded,
            self.residency_s,
            sorted(self.resident_on),
        )
