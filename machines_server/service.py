"""The questions that every door may ask, answered as ready bytes of JSON."""

import os
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson

from machines_server.bodies import NOTHING, Body, declared_keys, etag_of, view
from machines_server.core.fleet import Fleet
from machines_server.core.live import Latest, Live, changes_at, what_stands
from machines_server.core.registry import Endpoint, Machine, Registry
from machines_server.core.sample import Cycle
from machines_server.core.snapshot import Snapshot
from machines_server.core.status import PollerState, is_fresh, judge_poller, too_old_after_s
from machines_server.core.times import rfc3339
from machines_server.errors import StoreError
from machines_server.poller_lock import Holder, holder
from machines_server.system import System
from machines_server.yaml_dump import as_yaml

_NO_POLLS: Mapping[Endpoint, Latest] = {}
RECHECK_S = 1.0
"""How often the lock is looked at while no cycle comes in."""
LOOK_S = 0.02
"""How often it is looked for new polls before advice is given, however many ask."""
UNDER_WAY_S = 0.5
"""For so long the polls of a cycle that goes on may wait to be part of advice, which is then made once."""


class Store(Protocol):
    """What is asked of a store; each raises StoreError when it cannot be read."""

    def version(self) -> Hashable:
        """Something that changes with the content."""

    def snapshot(self) -> Snapshot:
        """The present."""

    def cycle(self) -> Cycle | None:
        """The latest finished cycle."""


@dataclass(frozen=True, slots=True, eq=False)
class _Built:
    """What is made from one state of files and store, and until when the clock lets it stand."""

    fleet: Fleet = field(default_factory=Fleet)
    registry: Registry = field(default_factory=Registry)
    poller: Mapping[str, Any] = field(default_factory=dict)
    store_version: Hashable = None
    cycle: Cycle | None = None
    built_at: float = 0.0
    valid_until: float = 0.0


class _Stood(NamedTuple):
    """What was found to stand of one machine, from what, and until when the clock leaves it so."""

    live: Live
    found: Mapping[Endpoint, Latest]
    fault: str | None
    limit_s: float
    since: float
    until: float

    def still(
        self,
        machine: Machine,
        found: Mapping[Endpoint, Latest],
        fault: str | None,
        now: float,
        limit_s: float,
    ) -> bool:
        """Whether it would be found again; polls of a machine without a new one are the same object."""
        return (
            self.live.machine is machine
            and self.found is found
            and (self.fault, self.limit_s) == (fault, limit_s)
            and self.since <= now < self.until
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Bodies:
    """The ready answers made of one fleet."""

    of: _Built | None = None
    generated_at: float = 0.0
    fleet: Body = NOTHING
    declared: Body = NOTHING
    views: Mapping[Live, bytes] = field(default_factory=dict)


class Service:
    """Answers from the machine files and the store; shared by the threads of one process."""

    def __init__(
        self,
        registry: Callable[[float], Registry],
        recent: Callable[[float], Registry],
        store: Store,
        config_dir: Path,
        poller_lock: Path,
        interval_s: float,
        timeout_s: float,
    ) -> None:
        """`recent` may be a moment behind `registry`; both times hold until the poller has told its own."""
        self._registry, self._recent, self._store = registry, recent, store
        self._config_dir, self._poller_lock = config_dir, poller_lock
        self._real_config_dir = os.path.realpath(config_dir)
        self._interval_s, self._timeout_s = interval_s, timeout_s
        self._system = System()
        self._lock = threading.Lock()
        self._built = _Built()
        self._passed_over_at: float | None = None
        self._looked_at = 0.0
        self._stood: dict[str, _Stood] = {}
        self._bodies = _Bodies()
        self._checks_begun = self._last_check = 0

    def machines(self) -> Body:
        """The machine files as declared."""
        return self._ready().declared

    def infrastructure(self) -> Body:
        """Every machine with its live keys."""
        return self._ready().fleet

    def machine(self, name: str) -> Body | None:
        """One machine with its live keys, or None if there is no such file."""
        live = self._current().fleet.live(name)
        if live is None:
            return None
        json = self._bodies.views.get(live) or view(live)
        return Body(json, etag_of(json))

    def file(self, name: str) -> str | None:
        """The file of one machine as it is in force, as YAML, or None if there is no such file."""
        machine = self._registry(time.time()).get(name)
        return None if machine is None else as_yaml(machine.declared)

    def fleet(self) -> Fleet:
        """What stands of every machine."""
        return self._current().fleet

    def recent_fleet(self) -> Fleet:
        """The same, by files and polls that may be a moment behind, not by a cycle."""
        return self._current(at_once=False).fleet

    def models(self) -> dict[str, Mapping[str, list[str]]]:
        """The models that each machine holds now, as `loaded`, and what is `on_disk` there."""
        fleet = self._current().fleet
        return {
            "loaded": {live.machine.name: live.loaded_models for live in fleet.lives},
            "on_disk": {live.machine.name: fleet.stored_models(live) for live in fleet.lives},
        }

    def registry(self, now: float) -> Registry:
        """The machines that are declared now (epoch seconds)."""
        return self._registry(now)

    def system(self) -> bytes:
        """The machine that the server runs on."""
        return orjson.dumps(self._system.read())

    def health(self) -> dict[str, Any]:
        """How this server is: `poller` and `store` say what is wrong with them."""
        message = None
        cycle = None
        try:
            cycle = self._store.cycle()
        except StoreError as error:
            message = str(error)
        leader = holder(self._poller_lock)
        if leader:
            message = leader.faults.get("store") or message
        elif not os.access(self._poller_lock.parent, os.W_OK):
            message = f"the data folder {self._poller_lock.parent} cannot be written"
        return {
            "status": "ok",
            "service": "machines-server",
            "version": _version(),
            "poller": self._poller(cycle, leader, time.time())[1],
            "store": {"state": "error" if message else "ok", "message": message},
        }

    def _current(self, *, at_once: bool = True) -> _Built:
        """What is built, built anew if a file, the store or the time has changed it; in part, for advice."""
        begun_before = self._checks_begun
        with self._lock:
            if self._last_check > begun_before:  # one began after this call did, and has seen all there is
                return self._built
            self._checks_begun += 1
            now = time.time()
            built = self._built
            registry = (self._registry if at_once else self._recent)(now)
            store_version = built.store_version
            if at_once or not 0 <= now - self._looked_at < LOOK_S:
                store_version, self._looked_at = self._store_version(), now
            if (
                registry is not built.registry
                or not built.built_at <= now < built.valid_until
                or (store_version != built.store_version and (at_once or not self._may_wait(now)))
            ):
                self._built = built = self._build(registry, store_version, now)
                self._passed_over_at = None
            if at_once:
                self._last_check = self._checks_begun
            return built

    def _store_version(self) -> Hashable:
        try:
            return self._store.version()
        except StoreError:
            return None

    def _may_wait(self, now: float) -> bool:
        """Whether what has come since it was built belongs to a cycle that will have more.

        While something is unknown it does not wait: a new machine is polled apart from the cycles.
        """
        if self._built.fleet.has_unknown:
            return False
        if self._passed_over_at is None:
            self._passed_over_at = now
        try:
            has_ended = self._store.cycle() != self._built.cycle
        except StoreError:
            return False
        return not has_ended and 0 <= now - self._passed_over_at < UNDER_WAY_S

    def _build(self, registry: Registry, store_version: Hashable, now: float) -> _Built:
        snapshot, store_fault = Snapshot(), None
        try:
            snapshot = self._store.snapshot()
        except StoreError as error:
            store_version, store_fault = None, str(error)
        cycle = snapshot.cycle
        leader = holder(self._poller_lock)
        poller, poller_body = self._poller(cycle, leader, now)
        fault = poller.fault
        if leader and fault:  # it polls, but what it learns does not come through
            fault = leader.faults.get("store") or store_fault or fault
        limit_s = self._limit_s(cycle)
        valid_until = now + RECHECK_S
        if cycle and is_fresh(cycle.ended_at, now, limit_s):
            valid_until = cycle.ended_at + limit_s
        before, self._stood = self._stood, {}
        for machine in registry:
            found = snapshot.latest.get(machine.name.casefold(), _NO_POLLS)
            stood = before.get(machine.name)
            if stood is None or not stood.still(machine, found, fault, now, limit_s):
                live = what_stands(machine, found, fault, now, limit_s)
                stood = _Stood(live, found, fault, limit_s, now, changes_at(found, now, limit_s))
            self._stood[machine.name] = stood
            valid_until = min(valid_until, stood.until)
        fleet = Fleet(
            lives=tuple(stood.live for stood in self._stood.values()),
            libraries=snapshot.libraries,
            sizes=snapshot.sizes,
            held_since=snapshot.held_since,
            interval_s=poller_body["interval_s"],
            is_polled=fault is None,
        )
        return _Built(
            # The same object as long as nothing is different, so that what was made of it stands as well.
            fleet=self._built.fleet if fleet == self._built.fleet else fleet,
            registry=registry,
            poller=poller_body,
            store_version=store_version,
            cycle=cycle,
            built_at=now,
            valid_until=valid_until,
        )

    def _ready(self) -> _Bodies:
        """The answers made of what stands; made when somebody asks."""
        self._current()
        with self._lock:
            if self._bodies.of is not self._built:
                self._bodies = self._render(self._built)
            return self._bodies

    def _render(self, built: _Built) -> _Bodies:
        """What has not changed since the last time is not made again: most machines, and the files."""
        fleet, registry, before = built.fleet, built.registry, self._bodies
        views = {live: before.views.get(live) or view(live) for live in fleet.lives}
        problems = [asdict(problem) for problem in registry.problems]
        content = {
            "machines": [orjson.Fragment(view) for view in views.values()],
            "total": len(registry),
            "errors": problems,
            "poller": built.poller,
        }
        json = orjson.dumps(content)
        etag = etag_of(json)
        generated_at = before.generated_at if etag == before.fleet.etag else built.built_at
        is_known = before.of is not None and before.of.registry is registry
        return _Bodies(
            of=built,
            generated_at=generated_at,
            fleet=Body(b'%s,"generated_at":%s}' % (json[:-1], orjson.dumps(rfc3339(generated_at))), etag),
            declared=before.declared if is_known else self._declared(registry, problems),
            views=views,
        )

    def _declared(self, registry: Registry, problems: list[dict[str, Any]]) -> Body:
        content = {
            "machines": [declared_keys(machine) for machine in registry],
            "total": len(registry),
            "config_dir": str(self._config_dir),
            "errors": problems,
        }
        json = orjson.dumps(content)
        return Body(json, etag_of(json))

    def _poller(
        self, cycle: Cycle | None, leader: Holder | None, now: float
    ) -> tuple[PollerState, dict[str, Any]]:
        judged = judge_poller(cycle, leader.since if leader else None, now, self._limit_s(cycle))
        if leader and leader.folder not in (None, self._real_config_dir):
            fault = f"process {leader.pid} polls the machine files of another folder, {leader.folder}"
            judged = PollerState("stopped", fault)
        faults = leader.faults if leader else {}
        said = [fault for fault in (judged.fault, faults.get("clock"), faults.get("poll")) if fault]
        return judged, {
            "state": judged.state,
            "last_cycle_at": rfc3339(cycle.ended_at) if cycle else None,
            "interval_s": cycle.interval_s if cycle else self._interval_s,
            "cycle_s": round(cycle.ended_at - cycle.started_at, 3) if cycle else None,
            "message": "; ".join(said) or None,
        }

    def _limit_s(self, cycle: Cycle | None) -> float:
        if cycle is None:
            return too_old_after_s(self._interval_s, self._timeout_s)
        return too_old_after_s(cycle.interval_s, cycle.timeout_s)


@cache
def _version() -> str:
    return version("machines-server")
