"""What polls say about services now, and about services that were never polled."""

from machines_server.core.host_services import LiveService, PolledService, ServiceStatus, live_services
from machines_server.core.machine import HostService
from machines_server.core.status import NOT_YET

WEB = HostService("web", 80, "/", "", "http://one:80/")
ACTIVE = PolledService(WEB.url, ServiceStatus.ACTIVE, None, 5.0)


def test_a_polled_service_is_as_it_was_seen() -> None:
    down = ACTIVE._replace(status=ServiceStatus.INACTIVE, reason="connection refused")
    assert live_services([WEB], {"web": ACTIVE}, None) == (LiveService(WEB, ServiceStatus.ACTIVE, None, 5.0),)
    assert live_services([WEB], {"web": down}, None) == (LiveService(WEB, down.status, down.reason, 5.0),)


def test_what_was_not_polled_there_is_unknown() -> None:
    unknown = (LiveService(WEB, ServiceStatus.UNKNOWN, NOT_YET, None),)
    assert live_services([WEB], {}, None) == unknown
    assert live_services([WEB], {"web": ACTIVE._replace(url="http://other:80/")}, None) == unknown
    not_asked = ACTIVE._replace(status=ServiceStatus.UNKNOWN, reason="this server could not ask")
    assert live_services([WEB], {"web": not_asked}, None)[0][1:] == (not_asked.status, not_asked.reason, None)


def test_nothing_is_known_while_nobody_polls() -> None:
    fault = "no poller is running"
    assert live_services([WEB], {"web": ACTIVE}, fault)[0][1:] == (ServiceStatus.UNKNOWN, fault, None)
