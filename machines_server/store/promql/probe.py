"""Tests whether an engine takes samples and answers queries, without leaving anything in it."""

from urllib.parse import urlencode

import msgspec

from machines_server.core.access import Access
from machines_server.core.past.metrics import METRICS
from machines_server.errors import NoAccessError
from machines_server.store.promql.engine import Answer, Engine, EngineUnreachableError, GetAccess
from machines_server.store.promql.expressions import matcher
from machines_server.store.promql.message import compressed
from machines_server.store.promql.names import series_name
from machines_server.store.promql.series import QUERY_HEADERS
from machines_server.store.promql.writer import WRITE_HEADERS

PROBE_TIMEOUT_S = 3.0
RECENT = "10m"
_MAX_PROBE_BYTES = 2**16


class _Instant(msgspec.Struct):
    """A sample of an answer: its time and its value as text."""

    value: tuple[float, str]


class _InstantData(msgspec.Struct):
    result: list[_Instant]


class _InstantAnswer(msgspec.Struct):
    data: _InstantData


class ProbeError(Exception):
    """The engine does not do what is needed; the text says why, after `it`."""


def try_writing(url: str, access: GetAccess = Access, timeout_s: float = PROBE_TIMEOUT_S) -> None:
    """Send a remote write without samples; raises ProbeError."""
    answer = _ask(url, WRITE_HEADERS, access, compressed(b""), timeout_s)
    if not 200 <= answer.status < 300:
        raise ProbeError(f"answers a remote write with HTTP status {answer.status}")


def count_recent(url: str, site: str, access: GetAccess = Access, timeout_s: float = PROBE_TIMEOUT_S) -> int:
    """How many machines of a site have samples from the last RECENT; raises ProbeError."""
    up = f"{series_name(METRICS['up'])}{{{matcher('site', [site])}}}"
    form = {"query": f"count(count_over_time({up}[{RECENT}])) or vector(0)", "nocache": "1"}
    answer = _ask(
        f"{url.rstrip('/')}/api/v1/query", QUERY_HEADERS, access, urlencode(form).encode(), timeout_s
    )
    if answer.status != 200:
        raise ProbeError(f"answers a query with HTTP status {answer.status}")
    try:
        ((_, count),) = (
            one.value for one in msgspec.json.decode(answer.body, type=_InstantAnswer).data.result
        )
        return int(float(count))
    except (msgspec.MsgspecError, ValueError, OverflowError):
        raise ProbeError("does not answer a query as Prometheus does") from None


def _ask(url: str, headers: tuple[str, ...], access: GetAccess, body: bytes, timeout_s: float) -> Answer:
    engine = Engine(url, headers, access, _MAX_PROBE_BYTES)
    try:
        return engine.post(body, timeout_s)
    except EngineUnreachableError as error:
        raise ProbeError(f"does not answer: {error}") from None
    except NoAccessError as error:
        raise ProbeError(f"cannot be queried: its credential is {error.reason.text}") from None
    finally:
        engine.close()
