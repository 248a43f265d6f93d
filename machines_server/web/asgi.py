"""The ASGI application that gunicorn runs, assembled from all layers that a request passes."""

from collections.abc import Callable, Collection
from wsgiref.types import WSGIApplication

from machines_server.contract.encoding import Body
from machines_server.core.hosts import Network
from machines_server.services.answer_cache import RouteReply
from machines_server.services.fleet import READY_PATHS
from machines_server.web.bridge import Bridge
from machines_server.web.guards import HostNames, HttpOnly, SameOrigin, TrustedProxies
from machines_server.web.messages import Application
from machines_server.web.ready import ReadyAnswers
from machines_server.web.ready_advice import ReadyAdvice
from machines_server.web.tool_endpoints import ToolEndpoints
from machines_server.web.waiting import Waiting
from machines_server.web.waiting_room import WaitingRoom


def make_stack(
    flask: WSGIApplication,
    threads: int,
    ready_nowait: Callable[[str], Body | None],
    make_ready: Callable[[str], Body],
    advice_nowait: Callable[[bytes], RouteReply | None],
    room: WaitingRoom,
    *,
    allowed_hosts: tuple[str, ...] = (),
    proxies: tuple[Network, ...] = (),
    own_names: Collection[str] = (),
    authenticated: Callable[[Application], Application] | None = None,
    counted: Callable[[Application], Application] | None = None,
) -> Application:
    """Wrap Flask in waiting, ready answers and tools for agents, and all of them in guards.

    `connections` adds deadlines around this.

    `ready_nowait` and `make_ready` return the answers for READY_PATHS, `advice_nowait` those of GET
    /api/route by query; see ReadyAnswers and ReadyAdvice. `authenticated` wraps an application in the check
    of signatures, `counted` in the counting of answers; None adds nothing.
    """
    waiting = Waiting(ReadyAdvice(Bridge(flask, threads), advice_nowait), room)
    inside = ToolEndpoints(ReadyAnswers(waiting, READY_PATHS, ready_nowait, make_ready))
    same_origin = SameOrigin(authenticated(inside) if authenticated else inside)
    host_names = HostNames(same_origin, allowed_hosts, own_names)
    guarded = TrustedProxies(host_names, proxies)
    return HttpOnly(counted(guarded) if counted else guarded)
