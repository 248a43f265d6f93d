"""What a store derives from polls of services: their present state, and events of changes."""

from dataclasses import replace

from machines_server.core.host_services import OWN_HOST, PolledService, ServiceResult, ServiceStatus
from machines_server.core.machine import HostService, Registry
from machines_server.store.api import Past, Present
from machines_server.store.sql.budget import MAX_SERVICE_EVENTS_AN_HOUR
from tests.store.contract.conftest import Write
from tests.store.contract.stores import told
from tests.store.polls import machine

START = 1_700_000_000
WEB = HostService("web", 80, "/x", "a page", "http://127.0.0.1:80/x")
REGISTRY = Registry((replace(machine(), services=(WEB,)),), loaded_at=1.0)
UP, DOWN, UNKNOWN = ServiceStatus.ACTIVE, ServiceStatus.INACTIVE, ServiceStatus.UNKNOWN


def polled(at: float, status: ServiceStatus, reason: str | None = None, on: str = "one") -> ServiceResult:
    return ServiceResult(on, WEB, status, START + at, reason)


def types(past: Past) -> list[str]:
    return [kind for kind, _ in told(past) if kind.startswith("service_")]


def test_the_present_has_each_service_since_its_last_change(write: Write, present: Present) -> None:
    write(REGISTRY, polled(1, UP), polled(6, UP), polled(7, UP, on=OWN_HOST))
    services = present.snapshot().services
    assert services["one"] == {"web": PolledService(WEB.url, UP, None, START + 1)}
    assert services[OWN_HOST]["web"].since == START + 7


def test_a_change_is_a_new_version_and_no_change_is_none(write: Write, present: Present) -> None:
    write(REGISTRY, polled(1, UP), polled(2, DOWN, "refused"))
    version, snapshot = present.version(), present.snapshot()
    assert snapshot.services["one"]["web"] == PolledService(WEB.url, DOWN, "refused", START + 2)
    write(REGISTRY, polled(3, DOWN, "silent"))
    assert present.version() != version
    assert present.snapshot().services["one"]["web"].reason == "silent"


def test_events_tell_what_answers_and_what_does_not(write: Write, past: Past) -> None:
    write(
        REGISTRY,
        *(polled(1, UP), polled(2, UP), polled(3, DOWN, "refused"), polled(4, DOWN, "silent")),
        *(polled(5, UNKNOWN, "not asked"), polled(6, DOWN, "silent"), polled(7, UP)),
        polled(8, UP, on=OWN_HOST),
    )
    assert types(past) == ["service_up", "service_down", "service_up"]
    detail = dict(told(past, "service_down"))["service_down"]
    assert detail == {"service": "web", "port": 80, "path": "/x", "reason": "refused"}


def test_another_poller_knows_nothing_until_it_has_asked(write: Write, present: Present, past: Past) -> None:
    write(REGISTRY, polled(1, UP))
    write(REGISTRY)
    assert present.snapshot().services["one"]["web"].status is UNKNOWN
    write(REGISTRY, polled(9, UP))
    assert present.snapshot().services["one"]["web"].status is UP
    assert types(past) == ["service_up"]


def test_a_service_that_is_no_longer_declared_is_gone(write: Write, present: Present) -> None:
    write(REGISTRY, polled(1, UP), Registry((machine(),), loaded_at=2.0), polled(3, UP, on=OWN_HOST))
    services = present.snapshot().services
    assert not services.get("one")
    assert services[OWN_HOST]


def test_a_poll_that_ends_after_its_file_was_removed_is_dropped(write: Write, present: Present) -> None:
    write(REGISTRY, Registry(loaded_at=2.0), polled(3, UP))
    assert not present.snapshot().services.get("one")


def test_a_folder_that_cannot_be_read_removes_nothing(write: Write, present: Present) -> None:
    write(REGISTRY, polled(1, UP), Registry(loaded_at=2.0, is_whole=False))
    assert present.snapshot().services["one"]["web"].status is UP


def test_a_service_that_flaps_has_a_budget_of_events(write: Write, past: Past) -> None:
    flaps = [polled(n / 100, (UP, DOWN)[n % 2]) for n in range(MAX_SERVICE_EVENTS_AN_HOUR + 100)]
    write(REGISTRY, *flaps)
    events = past.events([], ["service_up", "service_down"], 0, 1e11, 1000).events
    assert len(events) == MAX_SERVICE_EVENTS_AN_HOUR
