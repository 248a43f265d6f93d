"""The client for programs with an event loop of asyncio."""

import asyncio
import functools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, NoReturn, ParamSpec, Self, TypeVar, Unpack

import httpx

from machines_client import reading, routing, sessions
from machines_client.arguments import checked_callback
from machines_client.async_lease import AsyncLease, Leasing
from machines_client.errors import ClientError
from machines_client.flows import Flow, Pause, Question, Send, Session, Step
from machines_client.keeping import LostCallback
from machines_client.leasing import check_coroutine_function, check_model
from machines_client.messages import Collector, Reply
from machines_client.methods import shown_as
from machines_client.paging import Following, Pages
from machines_client.parameters import EventOptions, LeaseOptions
from machines_client.past_answers import Event
from machines_client.routing import CONNECT_TIMEOUT_S
from machines_client.unreachable import too_late, unreachable

T = TypeVar("T")
P = ParamSpec("P")
_Answer = Coroutine[Any, Any, T]


def _method(question: Question[P, T]) -> "Callable[Concatenate[AsyncClient, P], _Answer[T]]":
    """A question as a coroutine method."""

    @shown_as(question)
    async def ask(self: "AsyncClient", /, *args: P.args, **named: P.kwargs) -> T:
        return await self.run(question(self.session, *args, **named))

    return ask


class AsyncClient:
    """The same as Client, with methods to `await`; belongs to one event loop.

    >>> async def main():
    ...     async with AsyncClient() as client, client.lease("llama3.1:70b") as lease:
    ...         print(lease.name)
    >>> asyncio.run(main())
    workstation
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
        """The arguments are those of Client."""
        self.session = Session.of(url, timeout_s, retries, stale_s, (agent, private_key, passphrase))
        self.url = self.session.url
        self._loop: asyncio.AbstractEventLoop | None = None
        # No proxy can reach a server on this machine.
        self._http = httpx.AsyncClient(trust_env=not self.session.is_here, follow_redirects=False)

    # As in Client: what they return differs, so that the methods cannot be inherited.
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
    ) -> Leasing:
        """As in Client: to use with `async with`, or to `await`."""

        async def take() -> AsyncLease:
            checked_callback("on_lost", on_lost)
            flow = routing.reserve_reachable(self.session, model, connect_timeout_s, options)
            reserved = await self.run(flow)
            return AsyncLease(self, reserved, on_lost=on_lost, raise_if_lost=raise_if_lost)

        return Leasing(take)

    def leased(
        self,
        model: str,
        *,
        connect_timeout_s: float | None = CONNECT_TIMEOUT_S,
        on_lost: LostCallback | None = None,
        raise_if_lost: bool = True,
        **options: Unpack[LeaseOptions],
    ) -> Callable[[Callable[Concatenate[AsyncLease, P], Awaitable[T]]], Callable[P, _Answer[T]]]:
        """A decorator that takes a lease for each call of a coroutine function, as in Client."""
        check_model(model)
        routing.check_lease(model, options)
        checked_callback("on_lost", on_lost)

        def decorate(
            function: Callable[Concatenate[AsyncLease, P], Awaitable[T]],
        ) -> Callable[P, _Answer[T]]:
            check_coroutine_function(function)

            @functools.wraps(function)
            async def call(*args: P.args, **named: P.kwargs) -> T:
                async with self.lease(
                    model,
                    connect_timeout_s=connect_timeout_s,
                    on_lost=on_lost,
                    raise_if_lost=raise_if_lost,
                    **options,
                ) as lease:
                    return await function(lease, *args, **named)

            return call

        return decorate

    async def every_event(self, **options: Unpack[EventOptions]) -> AsyncIterator[Event]:
        """As in Client, for `async for`."""
        pages = Pages(options)
        while True:
            page = await self.events(**pages.question)
            for event in pages.events(page):
                yield event
            if not pages.turn(page):
                return

    async def follow(self, **options: Unpack[EventOptions]) -> AsyncIterator[Event]:
        """As in Client, for `async for`."""
        following = Following(options)
        if newest := following.newest:
            following.begin_after(await self.events(**newest))
        while True:
            began = time.monotonic()
            page = await self.events(**following.question)
            for event in following.events(page):
                yield event
            await asyncio.sleep(following.pause_s(page, time.monotonic() - began))

    async def aclose(self) -> None:
        """Close the connections to the server; afterwards, every question is a ClientError."""
        await self._http.aclose()

    def __enter__(self) -> NoReturn:
        raise TypeError("use `async with` for an AsyncClient, or `Client`")

    def __exit__(self, *_: object) -> None:
        """Never called, but without it `with` would not even try __enter__."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def run(self, flow: Flow[T]) -> T:
        """The result of a flow, whose steps are performed here."""
        try:
            step = next(flow)
            while True:
                try:
                    came = await self._do(step)
                except ClientError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(came)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _do(self, step: Step) -> Reply | str | None:
        if isinstance(step, Send):
            return await self._send(step)
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            async with asyncio.timeout(step.timeout_s):
                _, writer = await asyncio.open_connection(step.hostname, step.port)
        except TimeoutError:
            return "timed out"
        except (OSError, ValueError, OverflowError) as error:
            return str(error)
        writer.close()
        return None

    async def _send(self, step: Send) -> Reply:
        request = step.request
        collector = Collector(self.url)
        self._check_open()
        try:
            async with (
                asyncio.timeout(step.timeout_s),
                self._http.stream(
                    request.method,
                    self.url + request.target,
                    content=request.content,
                    headers=request.all_headers,
                    auth=self._signed if self.session.sign else None,
                    timeout=None,
                ) as response,
            ):
                async for part in response.aiter_bytes():
                    collector.add(part)
        except TimeoutError:
            raise too_late(self.url, step.timeout_s) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(self.url, error) from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status_code, headers, collector.content())

    def _signed(self, request: httpx.Request) -> httpx.Request:
        """Sign a request whose path is as it will be sent."""
        if self.session.sign:
            target = request.url.raw_path.decode("ascii")
            request.headers.update(self.session.sign(request.method, target, request.content))
        return request

    def _check_open(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise ClientError("this AsyncClient belongs to another event loop: make one in each")
        if self._http.is_closed:
            raise ClientError("this AsyncClient is closed: make another, or close it later")
