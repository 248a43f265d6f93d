"""The outermost layer: counts every answer, by route, method and status, and how long it took."""

import re
from collections.abc import Awaitable, Iterable, Sequence
from time import monotonic

import msgspec

from machines_server.counts.columns import MAX_ROUTES, METHODS, OTHER
from machines_server.counts.counts import Counts, endpoint_of
from machines_server.web.messages import Application, Message, Receive, Scope, Send

_LEASES = "/api/leases"
_PARAMETER = re.compile("<(?:(path):)?([a-z]+)>")


class _Error(msgspec.Struct, frozen=True):
    """The part of an error's body that is counted."""

    error: str = OTHER


_error = msgspec.json.Decoder(_Error).decode


class RouteTable:
    """The routes of the application, each with a number that is the same in all processes."""

    def __init__(self, rules: Iterable[str]) -> None:
        """`rules` are Flask's, with parameters such as `<name>`."""
        ordered = _ordered(rules)
        plain = {rule: number for number, rule in enumerate(ordered) if "<" not in rule}
        self._endpoints = {
            (rule, method): endpoint_of(number, method)
            for rule, number in plain.items()
            for method in METHODS
            if method != OTHER
        }
        patterns = [(number, _pattern(rule)) for number, rule in enumerate(ordered) if "<" in rule]
        self._plain, self._numbers = plain, [number for number, _ in patterns]
        self._patterns = re.compile("|".join(f"({pattern})" for _, pattern in patterns) or "(?!)", re.DOTALL)
        self._other = len(ordered)

    def endpoint(self, path: str, method: str) -> int:
        """Where requests for a path by a method are counted."""
        endpoint = self._endpoints.get((path, method))
        return endpoint_of(self.number_of(path), method) if endpoint is None else endpoint

    def number_of(self, path: str) -> int:
        """The number of the route that a path belongs to."""
        number = self._plain.get(path)
        if number is not None:
            return number
        found = self._patterns.fullmatch(path)
        return self._numbers[found.lastindex - 1] if found and found.lastindex else self._other


class Counting:
    """Counts the answers of the inner application."""

    def __init__(self, application: Application, counts: Counts, routes: RouteTable) -> None:
        self._application, self._counts, self._endpoint = application, counts, routes.endpoint
        self._add = counts.add_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, and count its answer before the last of it is sent: nobody has seen more."""
        status = 0

        def counting(
            message: Message,
        ) -> Awaitable[None]:  # no coroutine of its own, which takes a microsecond
            nonlocal status
            if not status:
                status = message["status"]
            elif not message.get("more_body"):
                self._count(scope, status)
                if status >= 400:
                    self._note_refusal(scope, message)
            return send(message)

        try:
            await self._application(scope, receive, counting)
        except Exception:
            if not status:
                self._count(scope, 500)  # with which gunicorn answers
            raise

    def _count(self, scope: Scope, status: int) -> None:
        took_s = monotonic() - scope["received_at"]
        self._add(self._endpoint(scope["path"], scope["method"]), status, took_s)

    def _note_refusal(self, scope: Scope, message: Message) -> None:
        if scope["path"] == _LEASES and scope["method"] == "POST":
            try:
                reason = _error(message.get("body", b"")).error
            except msgspec.MsgspecError:
                reason = OTHER
            self._counts.add("lease_refusals", reason)


def route_names(rules: Iterable[str]) -> Sequence[str]:
    """The names of routes by their numbers: `/api/machines/NAME`, and the last one for all other paths."""
    return (*(_PARAMETER.sub(lambda found: found[2].upper(), rule) for rule in _ordered(rules)), OTHER)


def _ordered(rules: Iterable[str]) -> list[str]:
    return sorted(set(rules))[: MAX_ROUTES - 1]


def _pattern(rule: str) -> str:
    """A pattern for the paths of a rule, without groups."""
    parts, at = [], 0
    for found in _PARAMETER.finditer(rule):
        parts += [re.escape(rule[at : found.start()]), "(?:.+)" if found[1] else "(?:[^/]+)"]
        at = found.end()
    return "".join([*parts, re.escape(rule[at:])])
