"""Reads series from an engine that answers PromQL, as `store.api.Past.series` promises."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlencode

import msgspec

from machines_server.core.access import Access
from machines_server.errors import EngineError, NoAccessError, TooMuchError
from machines_server.store.promql.engine import Answer, Engine, EngineUnreachableError, GetAccess, redacted
from machines_server.store.promql.expressions import Query, queries
from machines_server.store.promql.folds import Buckets, FoundSeries, Points, UnexpectedAnswerError, folds_of
from machines_server.store.values import SeriesKey

QUERY_TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 64 * 2**20
KEEP_FAULT_S = 60.0
_SHORT_STEP_S, _OFFSET_S = 60, 600
"""VictoriaMetrics repeats older values in the last half minute if steps are shorter than a minute and the
query ends there, so such queries end earlier and look ahead."""
_MAX_KEPT_CONNECTIONS = 8
QUERY_HEADERS = (
    "Content-Type: application/x-www-form-urlencoded",
    "Accept: application/json",
    "Cache-Control: no-store",
)
_OPTIONS = {
    "nocache": "1",  # otherwise VictoriaMetrics aligns the buckets to multiples of their length since 1970
    "deny_partial_response": "1",  # for a VictoriaMetrics cluster
    "partial_response": "false",  # for Thanos
    "dedup": "true",
}
_PERHAPS_NOT_UNDERSTOOD = (400, 422, 500, 501)
"""Statuses that may mean that an engine cannot parse a query; Prometheus says 400."""
KEEP_PROMQL_S = 3600.0
"""How long queries are in PromQL once the engine has refused one in MetricsQL, perhaps for another reason."""
_MAX_MISSED_CHUNKS, _MISSED_CHUNK_PAUSE_S = 5, 0.2
"""A query fails in Prometheus 2.42 while it compacts samples that came late, and succeeds soon after;
a later version fixed it (prometheus/prometheus, pull request 13115)."""
_WORDS_FOR_TOO_MUCH = (
    b"too many",
    b"maxsamplesperquery",
    b"maxpoints",
    b"maximum resolution",
    b"exceeds",
    b"limit",
)


class _RefusedError(Exception):
    """The engine refuses a query, perhaps because it is in MetricsQL."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class _Data(msgspec.Struct):
    """The part of an answer that depends on the question."""

    result: list[FoundSeries]


class _Found(msgspec.Struct, rename="camel"):
    """A good answer."""

    data: _Data
    is_partial: bool = False


_decode = msgspec.json.Decoder(_Found).decode


class PromqlSeries:
    """Queries an engine for folds; thread-safe. Keys must spell machines as their samples did."""

    def __init__(
        self,
        url: str,
        access: GetAccess = Access,
        *,
        site: str | None = None,
        timeout_s: float = QUERY_TIMEOUT_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        """`url` is the part before /api/v1/query_range, such as http://127.0.0.1:8428.

        `site` is that of the machines; None means any.
        """
        self._site = site
        self._url, self._where = f"{url.rstrip('/')}/api/v1/query_range", redacted(url.rstrip("/"))
        self._access, self._timeout_s, self._max_answer_bytes = access, timeout_s, max_answer_bytes
        self._promql_until = float("-inf")
        self._idle = list[Engine]()
        self._lock = threading.Lock()
        self._failed_at, self._fault = float("-inf"), ""

    def series(self, wanted: Sequence[SeriesKey], from_s: int, to_s: int, step_s: int) -> list[Points]:
        """For each key, the start and the fold of each bucket that has values, oldest first.

        Folds are exact while sums stay below 2**53. Raises EngineError or TooMuchError.
        """
        found: list[Points] = [[] for _ in wanted]
        if to_s <= from_s:
            return found
        buckets = Buckets(from_s, to_s, step_s, _OFFSET_S if step_s < _SHORT_STEP_S else 0)
        places: dict[SeriesKey, list[int]] = {}
        for place, key in enumerate(wanted):
            places.setdefault(key, []).append(place)
        deadline = time.monotonic() + self._timeout_s
        try:
            for key, points in self._points(wanted, buckets, deadline).items():
                for place in places.get(key, ()):
                    found[place] = points
        except EngineError as error:
            self._failed_at, self._fault = time.monotonic(), str(error)
            raise
        self._fault = ""
        return found

    def fault(self) -> str | None:
        """Why the last call failed, if it did so within KEEP_FAULT_S."""
        return self._fault or None if time.monotonic() - self._failed_at < KEEP_FAULT_S else None

    def close(self) -> None:
        """Close the idle connections; the next call opens another."""
        with self._lock:
            idle, self._idle = self._idle, []
        for one in idle:
            one.close()

    def _points(
        self, wanted: Sequence[SeriesKey], buckets: Buckets, deadline: float
    ) -> Mapping[SeriesKey, Points]:
        if time.monotonic() < self._promql_until:
            return self._points_in(wanted, buckets, deadline, is_metricsql=False)
        try:
            return self._points_in(wanted, buckets, deadline, is_metricsql=True)
        except _RefusedError as refused:
            try:
                points = self._points_in(wanted, buckets, deadline, is_metricsql=False)
            except EngineError:
                if _is_too_much(refused.answer):
                    self._check(refused.answer)
                raise
            self._promql_until = time.monotonic() + KEEP_PROMQL_S
            return points

    def _points_in(
        self, wanted: Sequence[SeriesKey], buckets: Buckets, deadline: float, *, is_metricsql: bool
    ) -> Mapping[SeriesKey, Points]:
        points = dict[SeriesKey, Points]()
        for query in queries(wanted, buckets.step_s, buckets.offset_s, self._site, is_metricsql=is_metricsql):
            answer = self._answer(query, buckets, deadline)
            if is_metricsql and answer.status in _PERHAPS_NOT_UNDERSTOOD:
                raise _RefusedError(answer)
            points |= self._read(answer, query, buckets)
        return points

    def _answer(self, query: Query, buckets: Buckets, deadline: float) -> Answer:
        answer = self._post(query, buckets, deadline)
        for _ in range(_MAX_MISSED_CHUNKS):
            if not _has_missed_a_chunk(answer):
                break
            time.sleep(_MISSED_CHUNK_PAUSE_S)
            answer = self._post(query, buckets, deadline)
        return answer

    def _post(self, query: Query, buckets: Buckets, deadline: float) -> Answer:
        left_s = max(deadline - time.monotonic(), 0.001)
        step_s, offset_s = buckets.step_s, buckets.offset_s
        form = {
            "query": query.text,
            "start": f"{buckets.from_s + step_s - offset_s - 1}.999",
            "end": f"{buckets.to_s - offset_s - 1}.999",
            "step": str(step_s),
            "timeout": f"{left_s:.3f}",
            **_OPTIONS,
        }
        try:
            with self._connection() as engine:
                return engine.post(urlencode(form).encode(), left_s)
        except EngineUnreachableError as error:
            raise EngineError(f"The history engine at {self._where} does not answer: {error}.") from None
        except NoAccessError as error:
            raise EngineError(
                f"The credential for the history engine at {self._where} is {error.reason.text}."
            ) from None

    def _read(self, answer: Answer, query: Query, buckets: Buckets) -> Mapping[SeriesKey, Points]:
        self._check(answer)
        try:
            found = _decode(answer.body)
            if found.is_partial:
                raise self._odd("only part of the data is available at the moment")
            return folds_of(found.data.result, query.metrics, buckets)
        except (msgspec.MsgspecError, ValueError, RecursionError, UnexpectedAnswerError):
            raise self._odd("its answer is not in Prometheus's format") from None

    def _check(self, answer: Answer) -> None:
        if answer.status == 200 and not answer.is_cut:
            return
        if answer.is_cut and answer.status == 200:
            most = self._max_answer_bytes // 2**20
            raise TooMuchError(
                f"The answer would have over {most} MiB: ask for a shorter span or a longer step."
            )
        if _is_too_much(answer):
            raise TooMuchError(
                "The history engine would have to read too much: ask for a shorter span or fewer series."
            )
        if answer.status == 503 and b"timeout" in _beginning(answer):
            raise self._odd(f"it did not finish within {self._timeout_s:g} s")
        raise self._odd(f"it answers with HTTP status {answer.status}")

    def _odd(self, what: str) -> EngineError:
        return EngineError(f"The history engine at {self._where} gave no usable answer: {what}.")

    @contextmanager
    def _connection(self) -> Iterator[Engine]:
        with self._lock:
            engine = self._idle.pop() if self._idle else None
        if engine is None:
            engine = Engine(self._url, QUERY_HEADERS, self._access, self._max_answer_bytes)
        try:
            yield engine
        finally:
            with self._lock:
                is_kept = len(self._idle) < _MAX_KEPT_CONNECTIONS
                if is_kept:
                    self._idle.append(engine)
            if not is_kept:
                engine.close()


def _has_missed_a_chunk(answer: Answer) -> bool:
    text = _beginning(answer)
    return answer.status == 422 and b"cannot populate chunk" in text and b"not found" in text


def _is_too_much(answer: Answer) -> bool:
    text = _beginning(answer)
    return answer.status in (400, 422) and any(word in text for word in _WORDS_FOR_TOO_MUCH)


def _beginning(answer: Answer) -> bytes:
    return answer.body[:4096].lower()
