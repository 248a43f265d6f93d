"""The last known answers, for when the server is away."""

import logging
import threading
from collections import OrderedDict

from machines_client.errors import ClientError

MAX_KEPT_ANSWERS, MAX_KEPT_BYTES = 256, 64 * 2**20

log = logging.getLogger("machines_client")


class LastAnswers:
    """Keeps the latest answer to each question for `stale_s` seconds; may be shared by threads."""

    def __init__(self, stale_s: float) -> None:
        self._stale_s = stale_s
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def keep(self, target: str, content: bytes, now: float) -> None:
        """Keep an answer in place of the previous one; the oldest are dropped beyond a limit."""
        with self._lock:
            self._kept[target] = content, now
            self._kept.move_to_end(target)
            while len(self._kept) > MAX_KEPT_ANSWERS or self._size_bytes() > MAX_KEPT_BYTES:
                self._kept.popitem(last=False)

    def has(self, target: str, now: float) -> bool:
        """Return whether there is an answer that is not too old."""
        with self._lock:
            return target in self._kept and now - self._kept[target][1] <= self._stale_s

    def recall(self, target: str, error: ClientError, now: float) -> tuple[bytes, float]:
        """The answer and its age in seconds; raises `error` if there is none, or only an older one."""
        with self._lock:
            content, at = self._kept.get(target, (b"", float("-inf")))
        age_s = now - at
        if age_s > self._stale_s:
            raise error
        log.warning("%s; using an answer that is %.0f s old", error, age_s)
        return content, age_s

    def _size_bytes(self) -> int:
        return sum(len(content) for content, _ in self._kept.values())
