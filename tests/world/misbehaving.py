"""How a host can misbehave, and what an operator must be told about it."""

import asyncio
import gzip
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from bench.answers import ollama_answer, sidecar_answers
from machines_server.core.machine import Endpoint
from machines_server.core.sample import State
from tests.bodies import gpu_body, http, ollama_body, sidecar_body
from tests.core.machines import OLLAMA, SIDECAR
from tests.fakes import FakeEndpoint, FakeFleet, Script
from tests.scripts import CHUNKED, OK, drip, pour, reset, say
from tests.world.neighbours import TIMEOUT_S

GIGABYTE = 10**9
MEBIBYTE = b" " * 2**20
NESTED = b"[" * 100_000 + b"]" * 100_000
SPACES_BROTLI = bytes.fromhex("cfffff7ff82540e2b14020f7fe9ffffffff04b00c4610180eefd3fffffff00")
"""How a brotli stream of a gigabyte of spaces begins; nobody gets further."""


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """What both endpoints of a machine do, and what is said of each: a state, and a part of the reason."""

    name: str
    listen: Callable[[FakeFleet, Endpoint], FakeEndpoint]
    state: State
    reason: str
    ollama_reason: str | None = None

    def said(self, endpoint: Endpoint) -> str:
        """A part of the reason for this endpoint."""
        return self.ollama_reason or self.reason if endpoint is OLLAMA else self.reason


def misbehaviours(tls: ssl.SSLContext) -> list[Misbehaviour]:
    """All of them, but for names and closed ports, which misbehave elsewhere; `tls` is what speaks TLS."""
    return [*_connections(tls), *_transport(), *_statuses(), *_bodies(), *_json(), *_values()]


def _both(name: str, script: Script, state: State, reason: str) -> Misbehaviour:
    return Misbehaviour(name, lambda fakes, _: fakes.scripted(script), state, reason)


def _answering(name: str, answer: bytes, reason: str, ollama_reason: str | None = None) -> Misbehaviour:
    return Misbehaviour(
        name, lambda fakes, _: fakes.scripted(say(answer)), State.ERROR, reason, ollama_reason
    )


async def _silence(writer: asyncio.StreamWriter) -> None:
    while not writer.transport.is_closing():
        await asyncio.sleep(0.2)


def _connections(tls: ssl.SSLContext) -> list[Misbehaviour]:
    return [
        Misbehaviour(
            "never accepts",
            lambda fakes, _: fakes.deaf(),
            State.UNREACHABLE,
            f"no connection within {TIMEOUT_S:g} s",
        ),
        Misbehaviour(
            "speaks TLS",
            lambda fakes, endpoint: fakes.listen(good_answer(endpoint), tls=tls),
            State.ERROR,
            "connection closed without an answer",
        ),
    ]


def _transport() -> list[Misbehaviour]:
    late, error = State.BUSY, State.ERROR
    silent, too_large = f"no answer within {TIMEOUT_S:g} s on an open connection", "answer larger than 1 MiB"
    every_s = 1.0
    return [
        _both("accepts and is silent", _silence, late, silent),
        _both("one byte a second in the status line", drip(b"", b"HTTP/1.1 200 OK", every_s), late, silent),
        _both("one byte a second in a header", drip(OK + b"X-Slow: ", b"y", every_s), late, silent),
        _both(
            "one byte a second in the body",
            drip(OK + b"Content-Length: 500\r\n\r\n", b"y", every_s),
            late,
            silent,
        ),
        _both(
            "headers without end", pour(OK, b"X-More: " + b"y" * 999 + b"\r\n"), error, "headers without end"
        ),
        _both("one header without end", pour(OK + b"X-More: ", b"y" * 999), error, "headers without end"),
        _both(
            "a gigabyte, announced",
            pour(OK + b"Content-Length: %d\r\n\r\n" % GIGABYTE, MEBIBYTE),
            error,
            too_large,
        ),
        _both("a gigabyte, not announced", pour(OK + b"\r\n", MEBIBYTE), error, too_large),
        _both("chunks without end", pour(CHUNKED, b"100000\r\n" + MEBIBYTE + b"\r\n"), error, too_large),
        _both("closes at once", say(), error, "connection closed without an answer"),
        _both("closes in the middle", say(OK + b"Content-Length: 500\r\n\r\n{"), error, "answer cut short"),
        _both("resets", reset(), error, "connection reset"),
        _both("resets in the middle", reset(OK + b"Content-Length: 500\r\n\r\n{"), error, "connection reset"),
        _both("speaks another protocol", say(b"SSH-2.0-OpenSSH_9.2\r\n"), error, "not an HTTP answer"),
    ]


def _statuses() -> list[Misbehaviour]:
    elsewhere = b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    found = [_answering("status 301 to another host", elsewhere, "HTTP status 301")]
    for status in ("204 No Content", "401 No", "404 No", "429 Slow Down", "500 Oh", "503 Later"):
        answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
        found.append(_answering(f"status {status[:3]}", answer, f"HTTP status {status[:3]}"))
    return found


def _bodies() -> list[Misbehaviour]:
    bomb = gzip.compress(b" " * 10**8)
    return [
        _answering("a gzip bomb", _encoded("gzip", bomb), "a compressed answer"),
        _answering("a brotli bomb", _encoded("br", SPACES_BROTLI), "perhaps a compressed answer"),
        _answering("HTML", http(b"<!doctype html><title>Welcome to nginx!</title>"), "HTML, not JSON"),
        _answering("nothing", http(b""), "no valid JSON"),
        _answering("invalid UTF-8", http(b'{"version": "\xff\xfe"}'), "no valid JSON"),
    ]


def _encoded(encoding: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _json() -> list[Misbehaviour]:
    values = {"NaN": b"NaN", "Infinity": b"Infinity", "1e999": b"1e999", "100,000 nested lists": NESTED}
    values |= {"a lone surrogate": b'"\\ud800"'}
    found = [
        _answering(
            name, http(b'{"version": 1, "gpu": [], "models": [], "x": ' + value + b"}"), "no valid JSON"
        )
        for name, value in values.items()
    ]
    long = b"9" * 5000
    twice = b'{"version": 1, "gpu": [], "models": [], "version": 2, "models": 3}'
    return [
        *found,
        _answering(
            "an integer of 5,000 digits",
            http(
                b'{"version": 1, "gpu": [], "ram_used_bytes": %b, "models": [{"name": "m", "size": %b}]}'
                % (long, long)
            ),
            "no valid JSON",
        ),
        _answering("keys twice", http(twice), "payload version 2", "models: not a list"),
        _answering("a list", http(b"[]"), "JSON, but not an object"),
        _answering("someone else's JSON", http(b'{"ok": true}'), "payload version None", "models: missing"),
    ]


def _values() -> list[Misbehaviour]:
    def values(
        name: str, sidecar: bytes, reason: str, ollama: bytes, ollama_reason: str, state: State = State.OK
    ) -> Misbehaviour:
        def listen(fakes: FakeFleet, endpoint: Endpoint) -> FakeEndpoint:
            return fakes.scripted(say(http(ollama if endpoint is OLLAMA else sidecar)))

        return Misbehaviour(name, listen, state, reason, ollama_reason)

    gpu = gpu_body(0, used_gb=1)
    long, control, range_ = "m" * 10**6, "a\x07\x1b[31mb", "out of range"
    many_models = json.dumps({"models": [{"name": f"m{number}"} for number in range(10_000)]}).encode()
    return [
        values(
            "wrong types",
            sidecar_body(cpu_percent="12"),
            "cpu_percent: '12' is not a number",
            ollama_body("m", size="4"),
            "m: size: '4' is not a whole number",
        ),
        values(
            "negative numbers",
            sidecar_body(gpu | {"index": -1}),
            f"gpu[0].index: -1 is {range_}",
            ollama_body("m", size=-1),
            f"m: size: -1 is {range_}",
        ),
        values(
            "numbers beyond all there is",
            sidecar_body(gpu | {"index": 2**40}),
            f"gpu[0].index: 1099511627776 is {range_}",
            ollama_body("m", size=2**63),
            f"m: size: 9223372036854775808 is {range_}",
        ),
        values(
            "10,000 of them",
            sidecar_body(*[{"index": 0}] * 10_000),
            "gpu: 10000 entries, more than 256",
            many_models,
            "models: 10000 entries, more than 1000",
            State.ERROR,
        ),
        values(
            "a name of a megabyte",
            sidecar_body(gpu | {"model": long}),
            "gpu[0].model: longer than 512 characters",
            ollama_body(long, name="m"),
            "models[0].model: longer than 512 characters",
        ),
        values(
            "control characters in a name",
            sidecar_body(gpu | {"uuid": control}),
            "has control characters",
            ollama_body(control),
            "has control characters",
        ),
    ]


SCRIPT = "<script>alert(1)</script>"
"""A name that is none, and legal."""


def harmless(endpoint: Endpoint) -> bytes:
    """An answer that is good, with SCRIPT for a name in it."""
    if endpoint is SIDECAR:
        return http(sidecar_body(gpu_body(0, used_gb=1, model=SCRIPT)))
    return http(ollama_body(SCRIPT))


def good_answer(endpoint: Endpoint, models: tuple[str, ...] = ("phi3:mini",)) -> bytes:
    """What a host that is well says."""
    return sidecar_answers()[0] if endpoint is SIDECAR else ollama_answer(models, 0.0, 0)
