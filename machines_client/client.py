"""The client that waits for each answer."""

import functools
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec, TypeVar, Unpack

import requests
import urllib3

from machines_client import reading, routing, sessions
from machines_client.arguments import checked_callback
from machines_client.errors import ClientError
from machines_client.flows import Flow, Pause, Question, Send, Session, Step
from machines_client.keeping import LostCallback
from machines_client.lease import Lease
from machines_client.leasing import check_function, check_model
from machines_client.messages import Collector, Reply
from machines_client.methods import shown_as
from machines_client.paging import Following, Pages
from machines_client.parameters import EventOptions, LeaseOptions
from machines_client.past_answers import Event
from machines_client.routing import CONNECT_TIMEOUT_S
from machines_client.unreachable import too_late, unreachable

T = TypeVar("T")
P = ParamSpec("P")
_CHUNK_BYTES = 65536


def _method(question: Question[P, T]) -> "Callable[Concatenate[Client, P], T]":
    """A question as a method that waits for the answer."""

    @shown_as(question)
    def ask(self: "Client", /, *args: P.args, **named: P.kwargs) -> T:
        return self.run(question(self.session, *args, **named))

    return ask


class Client:
    """A client of one machines-server; may be shared by threads.

    Failures raise ClientError; an unknown keyword or a value of a wrong type raises TypeError, and an
    argument that cannot be used, such as a malformed URL, raises ValueError.

    >>> client = Client()
    >>> client.pick("llama3.1:70b").url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout_s: float = 10.0,
        retries: int = 3,
        stale_s: float | None = None,
        agent: str | None = None,
        private_key: str | os.PathLike[str] | None = None,
        passphrase: str | None = None,
    ) -> None:
        """`url` is a URL or `host:port`, by default MACHINES_URL, or else http://127.0.0.1:3038.

        `timeout_s` limits each answer, including the `retries` of requests that may be repeated, but not the
        time that the server is asked to wait (`wait_s`). The pauses between them are long enough to survive a
        restart of the server. With `stale_s`, questions that only read get the last known answer while the
        server is away, if it is at most that many seconds old; its `age_s` is then above 0.

        Requests are signed if there is an `agent` and its `private_key`, a file as ssh-keygen writes it; by
        default MACHINES_AGENT_ID, MACHINES_PRIVATE_KEY and MACHINES_KEY_PASSPHRASE. Raises ClientError if the
        key cannot be used.
        """
        self.session = Session.of(url, timeout_s, retries, stale_s, (agent, private_key, passphrase))
        self.url = self.session.url

    machines = _method(reading.machines)
    infrastructure = _method(reading.infrastructure)
    machine = _method(reading.machine)
    file = _method(reading.file)
    models = _method(reading.models)
    history = _method(reading.history)
    history_csv = _method(reading.history_csv)
    histories = _method(reading.histories)
    events = _method(reading.events)
    availability = _method(reading.availability)
    availabilities = _method(reading.availabilities)
    services = _method(reading.services)
    system = _method(reading.system)
    health = _method(reading.health)
    ready = _method(reading.ready)
    ask = _method(reading.ask)
    text = _method(reading.text)
    route = _method(routing.route)
    pick = _method(routing.pick)
    reserve = _method(routing.reserve)
    leases = _method(routing.leases)
    held_lease = _method(routing.held_lease)
    renew = _method(routing.renew)
    release = _method(routing.release)
    login_link = _method(sessions.login_link)
    end_sessions = _method(sessions.end_sessions)

    def lease(
        self,
        model: str,
        *,
        connect_timeout_s: float | None = CONNECT_TIMEOUT_S,
        on_lost: LostCallback | None = None,
        raise_if_lost: bool = True,
        **options: Unpack[LeaseOptions],
    ) -> Lease:
        """Lease the best machine that this host can connect to; raises NoMachine.

        The lease is renewed in the background until it is released, which a `with` block does at its end.
        With `wait_s` it waits for a machine to be fit. If the lease is lost, `on_lost` is called, perhaps in
        another thread.

        >>> with client.lease("llama3.1:70b", min_free_vram_gb=4) as lease:
        ...     lease.name, lease.gpus[0].vram_gb
        ('workstation', 4.0)
        """
        checked_callback("on_lost", on_lost)
        reserved = self.run(routing.reserve_reachable(self.session, model, connect_timeout_s, options))
        return Lease(self, reserved, on_lost=on_lost, raise_if_lost=raise_if_lost)

    def leased(
        self,
        model: str,
        *,
        connect_timeout_s: float | None = CONNECT_TIMEOUT_S,
        on_lost: LostCallback | None = None,
        raise_if_lost: bool = True,
        **options: Unpack[LeaseOptions],
    ) -> Callable[[Callable[Concatenate[Lease, P], T]], Callable[P, T]]:
        """A decorator that takes a lease for each call of a function, and passes it as the first argument.

        >>> @client.leased("llama3.1:70b")
        ... def greet(lease, whom):
        ...     return f"hello {whom} from {lease.name}"
        >>> greet("world")
        'hello world from workstation'
        """
        check_model(model)
        routing.check_lease(model, options)
        checked_callback("on_lost", on_lost)

        def decorate(function: Callable[Concatenate[Lease, P], T]) -> Callable[P, T]:
            check_function(function)

            @functools.wraps(function)
            def call(*args: P.args, **named: P.kwargs) -> T:
                with self.lease(
                    model,
                    connect_timeout_s=connect_timeout_s,
                    on_lost=on_lost,
                    raise_if_lost=raise_if_lost,
                    **options,
                ) as lease:
                    return function(lease, *args, **named)

            return call

        return decorate

    def every_event(self, **options: Unpack[EventOptions]) -> Iterator[Event]:
        """All events that `events` finds, page by page; `limit` is the size of a page.

        >>> {event.machine for event in client.every_event(type="online")} == {"laptop", "workstation"}
        True
        """
        pages = Pages(options)
        while True:
            page = self.events(**pages.question)
            yield from pages.events(page)
            if not pages.turn(page):
                return

    def follow(self, **options: Unpack[EventOptions]) -> Iterator[Event]:
        """Events as they happen, oldest first, without end; `after` or `from_` begins in the past.

        The server is asked every `wait_s` seconds at least, by default 30, and answers as soon as there is an
        event. Raises ServerUnreachable if it is away for longer than a restart takes; resume with the `id` of
        the last event then. If the server has lost that event, it has a new database, and its first event is
        the next.

        >>> next(client.follow(after=0, machine="workstation", type="online")).type
        'online'
        """
        following = Following(options)
        if newest := following.newest:
            following.begin_after(self.events(**newest))
        while True:
            began = time.monotonic()
            page = self.events(**following.question)
            yield from following.events(page)
            time.sleep(following.pause_s(page, time.monotonic() - began))

    def run(self, flow: Flow[T]) -> T:
        """The result of a flow, whose steps are performed here."""
        try:
            step = next(flow)
            while True:
                try:
                    came = self._do(step)
                except ClientError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(came)
        except StopIteration as end:
            result: T = end.value
            return result

    def _do(self, step: Step) -> Reply | str | None:
        if isinstance(step, Send):
            return self._send(step)
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            socket.create_connection((step.hostname, step.port), step.timeout_s).close()
        except (OSError, ValueError, OverflowError) as error:
            return str(error)
        return None

    def _send(self, step: Send) -> Reply:
        request, ends = step.request, time.monotonic() + step.timeout_s
        collector = Collector(self.url)
        try:
            with requests.request(
                request.method,
                self.url + request.target,
                data=request.content,
                headers=request.all_headers,
                auth=self._signed if self.session.sign else None,
                timeout=step.timeout_s,
                proxies={"no_proxy": self.session.host} if self.session.is_here else None,
                allow_redirects=False,
                stream=True,
            ) as response:
                # Unlike iter_content, read1 returns what has arrived, so that the time can be checked.
                while part := response.raw.read1(_CHUNK_BYTES, decode_content=True):
                    collector.add(part)
                    if time.monotonic() > ends:
                        raise requests.Timeout
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise too_late(self.url, step.timeout_s) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise unreachable(self.url, error) from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status_code, headers, collector.content())

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request whose path is as it will be sent."""
        body = request.body or b""
        if self.session.sign and request.method:
            content = body.encode() if isinstance(body, str) else body
            request.headers.update(self.session.sign(request.method, request.path_url, content))
        return request
