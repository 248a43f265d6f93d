"""The machines, as their files declare them and as they are now."""

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from msgspec import Raw

from machines_server.contract.encoding import Body, encode, encode_parts, etag_of
from machines_server.contract.host_services import HostServices, host_services
from machines_server.contract.machines import (
    FleetContent,
    MachineProblem,
    Machines,
    declared_keys,
    machine_json,
    problems,
    with_moment,
)
from machines_server.core.host_services import live_services
from machines_server.core.machine import HostService, Problem, Registry
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.similar_names import similar_names
from machines_server.core.same_host import same_cards
from machines_server.core.sample import Cycle
from machines_server.core.state import MachineState
from machines_server.core.text import printable, quoted
from machines_server.errors import UnknownMachineError
from machines_server.failure_log import logger_of_failures
from machines_server.inventory.yaml.write import as_yaml
from machines_server.services.current_state import CurrentState
from machines_server.services.fleet_state import FleetState, unreadable
from machines_server.services.recent_state import RecentState

log = logger_of_failures(__name__)

INFRASTRUCTURE, MACHINES = "/api/infrastructure", "/api/machines"
READY_PATHS = (INFRASTRUCTURE, MACHINES)
"""The paths whose answers are cached ready to send."""
MAX_PROBLEMS = 1000
"""The most problems of machine files in an answer."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """An answer, and the state that it shows."""

    body: Body
    state: FleetState
    generated_at: float
    jsons: Mapping[MachineState, Raw] = field(default_factory=dict)
    """The machines in it."""


class FleetService:
    """Answers from the machine files and the latest polls; shared by the threads of a process."""

    def __init__(
        self,
        current: CurrentState,
        registry: Callable[[float], Registry],
        config_dir: Path,
        other_problems: Callable[[Registry], Iterable[Problem]] = lambda _: (),
        own_services: Callable[[], Sequence[HostService]] = tuple,
    ) -> None:
        """`other_problems` finds those of other files, such as files that machine files name.

        `own_services` are those declared for the server's own host.
        """
        self._current, self._registry, self._config_dir = current, registry, config_dir
        self._other_problems, self._own_services = other_problems, own_services
        self._recent = RecentState(current)
        self._lock = threading.Lock()
        self._ready: dict[str, _Ready] = {}
        self._make = {INFRASTRUCTURE: self._make_infrastructure, MACHINES: self._make_machines}

    def machines(self) -> Body:
        """The machine files as declared."""
        return self.ready(MACHINES)

    def infrastructure(self) -> Body:
        """Every machine with its live keys."""
        return self.ready(INFRASTRUCTURE)

    def ready(self, path: str) -> Body:
        """The answer for one of READY_PATHS; rebuilt if the state has changed."""
        with self._lock:
            state, answer = self._current.get(), self._ready.get(path)
            if answer is None or answer.state is not state:
                answer = self._ready[path] = self._make[path](state, answer)
            return answer.body

    def ready_nowait(self, path: str) -> Body | None:
        """The answer, or None if it must be rebuilt or finding out would block."""
        state, answer = self._current.get_nowait(), self._ready.get(path)
        return answer.body if answer and answer.state is state else None

    def machine(self, name: str) -> Body | None:
        """One machine with its live keys, or None if no file declares it."""
        live = self.fleet().state_of(name)
        return Body.of(bytes(_machine_json(live))) if live else None

    def file(self, name: str) -> str | None:
        """A machine's file as currently in effect, as YAML, or None if there is none."""
        machine = self._registry(time.time()).get(name)
        if machine is None:
            return None
        try:
            return as_yaml(machine.declared)
        except Exception:
            log.exception("machine file %s cannot be written as YAML; its JSON is YAML, too", machine.file)
            return encode_parts({key: Raw(json) for key, json in machine.declared_json.items()}).decode()

    def unknown_machine(self, name: str) -> UnknownMachineError:
        """The error for a name that no file declares, with similar names."""
        similar = similar_names(name, [machine.name for machine in self._registry(time.time())])
        message = f"There is no machine named {quoted(name)}; GET /api/machines lists them."
        return UnknownMachineError(message, similar)

    def state(self) -> FleetState:
        """The state now, the same object as before if nothing has changed."""
        return self._current.get()

    def problems(self, state: FleetState) -> list[MachineProblem]:
        """The problems of the files, including those that only GPUs and other files reveal."""
        more = [*same_cards(state.fleet.states), *self._other_problems(state.registry)]
        return problems(state.registry.first_problems(MAX_PROBLEMS, more))

    def fleet(self) -> Fleet:
        """The state of every machine now."""
        return self._current.get().fleet

    def newest_fleet(self) -> Fleet:
        """The state of every machine, with all that any server has learned before the call."""
        return self._current.get_newest().fleet

    def version(self) -> Hashable:
        """A value that changes when the fleet may have changed."""
        return self._current.version()

    def recent_fleet(self, prepare: Callable[[Fleet], None] = lambda _: None) -> Fleet:
        """The state for advice; since advice promises nothing, a large fleet's may lack the latest polls.

        `prepare` is called with fleets that will soon be returned.
        """
        return self._recent.get(prepare).fleet

    def recent_fleet_nowait(self, prepare: Callable[[Fleet], None]) -> Fleet | None:
        """The same, or None if finding out would block."""
        state = self._recent.get_nowait(prepare)
        return state.fleet if state else None

    def models(self) -> dict[str, Mapping[str, list[str]]]:
        """The models that each machine has in memory (`loaded`) and on its disk (`on_disk`) now."""
        fleet = self.fleet()
        return {
            "loaded": {live.machine.name: live.loaded_models for live in fleet.states},
            "on_disk": {live.machine.name: fleet.stored_model_names(live) for live in fleet.states},
        }

    def services(self) -> HostServices:
        """The services of this host and of all machines."""
        state = self._current.get()
        own = live_services(self._own_services(), state.own_services, state.poller.fault)
        found = chain(
            ((None, live) for live in own),
            ((one.machine.name, live) for one in state.fleet.states for live in one.services),
        )
        return host_services(found, state.checked_at)

    def registry(self, now: float) -> Registry:
        """The machines that are declared at `now` (epoch seconds)."""
        return self._registry(now)

    def last_cycle(self) -> Cycle | None:
        """The latest finished cycle of which this process knows."""
        return self._current.last_cycle()

    def read_fault(self) -> str | None:
        """Why the database cannot be read, or None."""
        return self._current.read_fault()

    def _make_infrastructure(self, state: FleetState, before: _Ready | None) -> _Ready:
        known = before.jsons if before else {}
        jsons = {live: known.get(live) or _machine_json(live) for live in state.fleet.states}
        content = FleetContent(
            machines=list(jsons.values()),
            total=len(state.registry),
            errors=self.problems(state),
            poller=state.poller.shown,
        )
        json = encode_parts(content)
        etag = etag_of(json)
        is_same = before is not None and before.body.etag == etag
        generated_at = before.generated_at if before and is_same else state.built_at
        return _Ready(Body(with_moment(json, generated_at), etag), state, generated_at, jsons)

    def _make_machines(self, state: FleetState, _before: _Ready | None) -> _Ready:
        content = Machines(
            machines=[declared_keys(machine) for machine in state.registry],
            total=len(state.registry),
            config_dir=printable(str(self._config_dir)),
            errors=self.problems(state),
        )
        return _Ready(Body.of(encode(content)), state, state.built_at)


def _machine_json(live: MachineState) -> Raw:
    """A machine with its live keys; shown as unknown if that fails."""
    try:
        return machine_json(live)
    except Exception:
        log.exception("machine %s cannot be shown", live.machine.name)
        return machine_json(unreadable(live.machine))
