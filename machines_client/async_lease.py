"""A lease that a task renews."""

import asyncio
import inspect
import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from machines_client.keeping import LeaseState, LostCallback
from machines_client.routing import Reserved

if TYPE_CHECKING:
    from machines_client.async_client import AsyncClient

log = logging.getLogger("machines_client")


class AsyncLease(LeaseState):
    """A leased machine, renewed by a task until `release()` or the end of an `async with` block.

    It has the attributes of a Lease. `on_lost` may be a coroutine function. Once nothing refers to the
    object, or the event loop ends, it is no longer renewed.
    """

    def __init__(
        self, client: "AsyncClient", reserved: Reserved, *, on_lost: LostCallback | None, raise_if_lost: bool
    ) -> None:
        super().__init__(client.session, reserved, on_lost=on_lost, raise_if_lost=raise_if_lost)
        self._client = client
        # The task must not keep a lease alive that its owner has dropped.
        keeper = weakref.WeakMethod(self._keep)
        self._keeper = asyncio.create_task(_renew(keeper, self._usual_pause_s), name=f"lease {self.id}")

    async def check(self, *, ask: bool = False) -> None:
        """Raise LeaseLost if the lease no longer holds, even if you released it.

        `ask` asks the server now, which renews the lease.
        """
        try:
            self._raise_if_known_lost()
            if ask:
                await self._client.run(self._renewing())
        finally:
            await self._tell()

    async def release(self) -> None:
        """End the lease; if the server cannot be reached, it expires by itself."""
        if self._is_released:
            return
        self.stop_renewing()
        if asyncio.current_task() is not self._keeper:  # which calls the callback, and that may release
            if not self._is_told:  # otherwise the callback finishes
                self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self._client.run(self._releasing(self._session))
        await self._tell()

    def __enter__(self) -> NoReturn:
        raise TypeError("use `async with` for a lease of an AsyncClient")

    def __exit__(self, *_: object) -> None:
        """Never called, but without it `with` would not even try __enter__."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.release()
        self._end_of_block(error)

    async def _keep(self) -> float | None:
        pause_s = await self._client.run(self._keeping())
        await self._tell()
        return pause_s

    async def _tell(self) -> None:
        lost = self._untold()
        if lost is not None and self._on_lost is not None:
            try:
                came = self._on_lost(lost)
                if inspect.isawaitable(came):
                    await came
            except Exception:
                log.exception("the callback for the lost lease %s failed", self.id)


async def _renew(
    keeper: weakref.WeakMethod[Callable[[], Coroutine[Any, Any, float | None]]], pause_s: float | None
) -> None:
    """Renew a lease until it has ended or nothing refers to it."""
    while pause_s is not None:
        await asyncio.sleep(pause_s)
        keep = keeper()
        pause_s = await keep() if keep else None
        del keep


class Leasing(Awaitable[AsyncLease]):
    """A lease that is being taken: `await` it, or use it with `async with`."""

    def __init__(self, take: Callable[[], Awaitable[AsyncLease]]) -> None:
        self._take = take
        self._lease: AsyncLease | None = None

    def __enter__(self) -> NoReturn:
        raise TypeError("use `async with` for a lease of an AsyncClient")

    def __exit__(self, *_: object) -> None:
        """Never called, but without it `with` would not even try __enter__."""

    def __await__(self) -> Generator[object, None, AsyncLease]:
        return self._take().__await__()

    async def __aenter__(self) -> AsyncLease:
        self._lease = await self._take()
        return self._lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._lease is not None:
            await self._lease.__aexit__(kind, error, at)
