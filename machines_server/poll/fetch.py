"""Fetches many targets at once in one thread: each yields, in time, a body or the reason why there is none.

It drives libcurl's multi interface with `socket_action` and epoll. That takes a tenth of the CPU of a thread
pool with requests, and offers what safety needs: a deadline for the whole request, a limit on the body, no
redirects.
"""

import select
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import pycurl

from machines_server.core import reasons
from machines_server.core.reasons import Reason
from machines_server.failure_log import logger_of_failures
from machines_server.poll.failures import (
    NOT_READ_IN_TIME,
    NOT_SET_UP,
    TOO_MANY_NAMES,
    UNREADABLE,
    Failure,
    failure_of,
)
from machines_server.poll.resolve import Resolver
from machines_server.poll.targets import Sign, Target
from machines_server.poll.transfer import (
    HANDLES_PER_MULTI,
    HandleGroup,
    Transfer,
    request_headers,
    system_authorities,
)

log = logger_of_failures(__name__)

_STARTS_PER_STEP = 256
_MAX_STEP_WAIT_S = 0.2
_RESOLVE_WAIT_S = 0.02
_PATIENCE_SHARE = 0.5
"""The part of the deadline for which a request waits for a better address than the known one."""
_STALL_S, _STALL_SHARE = 0.5, 0.5
"""A process that did not run for this long, or for this part of the deadline, may have missed answers."""


@dataclass(slots=True)
class Fetched:
    """How one request ended: with a `body` (status 200), or with a `failure` and its `reason`."""

    target: Target
    took_s: float
    body: bytes = b""
    failure: Failure | None = None
    reason: Reason | None = None
    date: bytes | None = None
    """The Date header of the answer."""
    remark: str | None = None
    """What an operator should know about a good answer."""
    status: int | None = None
    """The HTTP status of an unusable answer, if it got that far."""

    @property
    def url(self) -> str:
        """The URL that was requested."""
        return self.target.url


class Fetcher:
    """Keeps connections and handles from one round of requests to the next; for one thread."""

    def __init__(self, timeout_s: float, resolver: Resolver | None = None, sign: Sign | None = None) -> None:
        """`timeout_s` spans a whole request: name look-up, connect, headers, body."""
        self._sign = sign
        self._timeout_s = timeout_s
        self._stall_s = min(_STALL_S, _STALL_SHARE * timeout_s)
        self._trusted = system_authorities()
        # Read now, not when first needed: importlib would remember a failure for lack of file descriptors.
        self._headers = request_headers()
        self._epoll = select.epoll()
        self._resolver = resolver or Resolver()
        self._groups: list[HandleGroup] = []
        self._doubtful: set[HandleGroup] = set()
        """Those in which a request failed to start: libcurl may keep a handle that pycurl thinks refused."""
        self._transfers: dict[Target, Transfer] = {}
        self._dated: Collection[str] = ()
        self._unresolved: list[tuple[Transfer, float]] = []
        self._under_way: set[Transfer] = set()
        self._stalled = False

    def fetch(self, targets: Iterable[Target], dated: Collection[str] = ()) -> Iterator[Fetched | None]:
        """Yield one result per target as it arrives, and None after each step without a result.

        `dated` are the URLs whose Date header is needed: reading headers costs as much as everything else in
        Python. Handles and connections of targets that are no longer requested are closed. If the caller
        stops early, the requests under way are abandoned.
        """
        wanted = dict.fromkeys(targets)
        self._dated = dated
        self._keep_only(wanted)
        self._stalled = False
        self._ticked_at, self._waited_s = time.monotonic(), 0.0
        waiting, left = iter(wanted), len(wanted)
        if not left:
            return
        try:
            while True:
                quiet = True
                for result in chain(self._prepare(islice(waiting, _STARTS_PER_STEP)), self._step()):
                    left -= 1
                    quiet = False
                    yield result
                    if not left:
                        return
                if quiet:
                    yield None
        finally:
            self._give_up()

    def close(self) -> None:
        """Close every connection."""
        self._give_up()
        self._close(set(self._groups))
        self._epoll.close()

    def _give_up(self) -> None:
        """Remove every handle that is under way: libcurl does not accept one twice."""
        self._unresolved.clear()
        for transfer in self._under_way:
            transfer.group.multi.remove_handle(transfer.curl)
        self._under_way.clear()

    def _keep_only(self, wanted: dict[Target, None]) -> None:
        kept = {one.host for target, one in self._transfers.items() if target in wanted}
        self._resolver.forget_all_but(kept)
        # libcurl closes a connection that it keeps alive only together with the CurlMulti.
        gone = {one.group for target, one in self._transfers.items() if target not in wanted}
        self._close(self._doubtful | gone)
        self._doubtful.clear()

    def _close(self, groups: set[HandleGroup]) -> None:
        for target in [target for target, one in self._transfers.items() if one.group in groups]:
            self._transfers.pop(target).close()
        for group in groups:
            group.multi.close()
            self._groups.remove(group)

    def _prepare(self, targets: Iterable[Target]) -> Iterator[Fetched]:
        for target in targets:
            try:
                self._unresolved.append((self._transfer(target), time.monotonic()))
            except Exception:
                log.exception("a request for %s could not be set up", target.url)
                yield Fetched(target, 0.0, failure=Failure.OWN, reason=NOT_SET_UP)

    def _transfer(self, target: Target) -> Transfer:
        transfer = self._transfers.get(target)
        if transfer is None:
            group = next((one for one in self._groups if one.handles < HANDLES_PER_MULTI), None)
            if group is None:
                group = HandleGroup(self._epoll)
                self._groups.append(group)
            needs_date = target.url in self._dated
            transfer = Transfer(
                target, group, self._headers, self._trusted, self._sign, needs_date=needs_date
            )
            self._transfers[target] = transfer
        if transfer.needs_look_up:
            self._resolver.ask(transfer.host)
        return transfer

    def _step(self) -> Iterator[Fetched]:
        """Wait for sockets and timers once, and yield what has ended."""
        yield from self._start_resolved()
        now = self._now()
        due = min((group.due for group in self._groups), default=now)
        self._waited_s = min(max(due - now, 0.0), _RESOLVE_WAIT_S if self._unresolved else _MAX_STEP_WAIT_S)
        self._ticked_at = now
        for fd, events in self._epoll.poll(self._waited_s):
            mask = (events & select.EPOLLIN and pycurl.CSELECT_IN) | (
                events & select.EPOLLOUT and pycurl.CSELECT_OUT
            )
            if events & (select.EPOLLERR | select.EPOLLHUP):
                mask |= pycurl.CSELECT_ERR
            group = next((one for one in self._groups if fd in one.fds), None)
            if group is not None:  # otherwise it is idle, or an earlier event has closed it
                group.multi.socket_action(fd, mask)
                group.touched = True
            else:
                for one in self._groups:
                    one.forget(fd)
        now = self._now()
        for group in self._groups:
            if group.due <= now:
                group.due = float("inf")
                group.multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
                group.touched = True
            if group.touched:
                group.touched = False
                for transfer, code in group.ended():
                    yield self._result(transfer, code)

    def _now(self) -> float:
        """The time; records whether this process was stopped or starved since the last tick.

        In that case, answers may be unread although their deadlines have passed.
        """
        now = time.monotonic()
        self._stalled |= now - self._ticked_at - self._waited_s > self._stall_s
        return now

    def _start_resolved(self) -> Iterator[Fetched]:
        """Start the requests whose addresses are known; look-ups count towards the deadline."""
        unresolved, self._unresolved = self._unresolved, []
        now = time.monotonic()
        for transfer, since in unresolved:
            waited_s = now - since
            if self._may_start(transfer, waited_s):
                try:
                    transfer.start(self._timeout_s - waited_s, self._resolver)
                    self._under_way.add(transfer)
                except Exception:
                    self._doubtful.add(transfer.group)
                    log.exception("a request for %s could not be sent", transfer.url)
                    yield Fetched(transfer.target, waited_s, failure=Failure.OWN, reason=NOT_SET_UP)
            elif explained := self._explain_name(transfer.host, waited_s):
                failure, reason = explained
                yield Fetched(transfer.target, waited_s, failure=failure, reason=reason)
            else:
                self._resolver.ask(transfer.host)  # there may have been too many look-ups at first
                self._unresolved.append((transfer, since))

    def _may_start(self, transfer: Transfer, waited_s: float) -> bool:
        """Return whether its address is known; an old or doubtful one must do if no better one comes."""
        host, resolver = transfer.host, self._resolver
        if not transfer.needs_look_up or resolver.is_sure(host):
            return True
        is_late = waited_s >= _PATIENCE_SHARE * self._timeout_s
        return bool(resolver.addresses(host)) and (is_late or resolver.own_fault(host) is not None)

    def _explain_name(self, host: str, waited_s: float) -> tuple[Failure, Reason] | None:
        """Why there is no address; None while one may still be found in time."""
        if self._resolver.addresses(host):
            return None
        if fault := self._resolver.own_fault(host):
            return Failure.OWN, Reason(fault)
        if error := self._resolver.error(host):
            return Failure.UNREACHABLE, Reason(error, reasons.NO_NAME)
        if waited_s < self._timeout_s:
            return None
        if self._stalled:
            return Failure.OWN, NOT_READ_IN_TIME
        if not self._resolver.looks_up(host):
            return Failure.OWN, TOO_MANY_NAMES
        return Failure.UNREACHABLE, Reason(f"name not resolved within {self._timeout_s:g} s", reasons.NO_NAME)

    def _result(self, transfer: Transfer, code: int) -> Fetched:
        self._under_way.discard(transfer)
        try:
            fetched = self._read(transfer, code)
        except Exception:  # only this answer is lost
            log.exception("an answer of %s could not be read", transfer.url)
            return Fetched(transfer.target, 0.0, failure=Failure.BAD_ANSWER, reason=UNREADABLE)
        if transfer.needs_look_up:
            if fetched.failure not in (None, Failure.OWN):
                self._resolver.doubt(transfer.host)
            elif _may_be_several_hosts(transfer.addresses):
                count = len(transfer.addresses)
                fetched.remark = (
                    f"answered by {transfer.answered_by}, one of {count} addresses of {transfer.host}"
                )
        return fetched

    def _read(self, transfer: Transfer, code: int) -> Fetched:
        curl, target = transfer.curl, transfer.target
        took_s = curl.getinfo(pycurl.TOTAL_TIME)
        if code == pycurl.E_OK:
            status = curl.getinfo(pycurl.RESPONSE_CODE)
            if status == 200:
                body = b"".join(transfer.chunks)
                transfer.chunks.clear()
                return Fetched(target, took_s, body, date=transfer.date)
            body, redirect = b"".join(transfer.chunks), curl.getinfo_raw(pycurl.REDIRECT_URL) or b""
            reason = reasons.http_status(status, body, redirect)
            return Fetched(
                target,
                took_s,
                failure=Failure.BAD_ANSWER,
                reason=reason,
                status=status,
                date=transfer.date,
            )
        failure, reason = failure_of(transfer, code, self._timeout_s, stalled=self._stalled)
        status = curl.getinfo(pycurl.RESPONSE_CODE) or None
        return Fetched(target, took_s, failure=failure, reason=reason, status=status)


def _may_be_several_hosts(addresses: tuple[str, ...]) -> bool:
    """Return whether a name has more addresses than one of each family, as a single host may have."""
    return len(addresses) > len({":" in address for address in addresses})
