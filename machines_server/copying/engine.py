"""Sends measurements to the engine, which must accept each request before the next is sent."""

import time
from collections.abc import Callable
from typing import NoReturn

from machines_server.errors import NoAccessError, StoreError
from machines_server.store.promql.batches import BATCH_SAMPLES
from machines_server.store.promql.engine import Engine, EngineUnreachableError, GetAccess, redacted
from machines_server.store.promql.message import compressed, series_with
from machines_server.store.promql.verdict import Fate, verdict_of
from machines_server.store.promql.writer import (
    FIRST_PAUSE_S,
    MAX_PAUSE_S,
    MAX_RETRY_AFTER_S,
    WRITE_HEADERS,
    WRITE_TIMEOUT_S,
)

GIVE_UP_S = 120.0
"""How long the engine may be away."""
_MAX_ANSWER_BYTES = 2**16
_OF_TIME = {
    "out_of_order": "it has newer samples of the same series",
    "too_old": "they are older than it accepts",
    "duplicate": "it has other samples for the same time",
}
_WAY_OUT = (
    "copy the past before the servers of the cluster are started, or let the engine take older samples"
    " (Prometheus: a longer out_of_order_time_window), and run the same command again"
)


class EngineWriter:
    """Sends batches of series over one connection; for one thread."""

    def __init__(
        self, url: str, access: GetAccess, told: Callable[[int], None], *, give_up_s: float = GIVE_UP_S
    ) -> None:
        """`told` is called with the number of samples that the engine has taken."""
        self._engine = Engine(url, WRITE_HEADERS, access, _MAX_ANSWER_BYTES)
        self._where, self._told, self._give_up_s = redacted(url), told, give_up_s
        self._parts, self._samples = list[bytes](), 0

    def add(self, labels: bytes, samples: bytes, number: int) -> None:
        """Send samples of one series, or keep them until there are more."""
        if number:
            self._parts.append(series_with(labels, samples))
            self._samples += number
            if self._samples >= BATCH_SAMPLES:
                self.flush()

    def flush(self) -> None:
        """Send waiting samples; raises StoreError if the engine does not take them."""
        if not self._parts:
            return
        self._send(compressed(b"".join(self._parts)))
        self._told(self._samples)
        self._parts, self._samples = [], 0

    def close(self) -> None:
        """Close the connection."""
        self._engine.close()

    def _send(self, body: bytes) -> None:
        until, pause_s = time.monotonic() + self._give_up_s, FIRST_PAUSE_S
        while True:
            wanted_s = None
            try:
                answer = self._engine.post(body, WRITE_TIMEOUT_S)
            except EngineUnreachableError as error:
                why = str(error)
            except NoAccessError as error:
                raise StoreError(
                    f"The credential for the history engine at {self._where} is {error.reason.text}."
                ) from None
            else:
                verdict, wanted_s = verdict_of(answer.status, answer.body), answer.retry_after_s
                if verdict.fate is Fate.ACCEPTED:
                    return
                why = f"it answers with HTTP status {answer.status}"
                if verdict.fate is Fate.REFUSED or answer.status in (401, 403, 404, 405):
                    self._refuse(verdict.reason, why)
            rest_s = max(pause_s, min(wanted_s or 0.0, MAX_RETRY_AFTER_S))
            if time.monotonic() + rest_s > until:
                raise StoreError(
                    f"The history engine at {self._where} does not take samples: {why}. What it has taken"
                    " stays copied; run the same command again once it works."
                )
            time.sleep(rest_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def _refuse(self, reason: str, why: str) -> NoReturn:
        if reason in _OF_TIME:
            raise StoreError(
                f"The history engine at {self._where} refuses samples, since {_OF_TIME[reason]}: {_WAY_OUT}."
            )
        raise StoreError(f"The history engine at {self._where} refuses samples: {why}.")
