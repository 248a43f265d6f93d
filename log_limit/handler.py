"""A log handler that limits the lines of each kind; the others are counted and summarised."""

import logging
import threading
import time
from contextlib import suppress

BURST_LINES = 250
"""Lines of a kind that are written at once, enough for a line per host when a whole fleet fails."""
LINES_PER_S = 1.0
"""The rate at which lines of a persistent kind are written."""
SUMMARY_INTERVAL_S = 10.0
"""Interval between two summaries of omitted lines."""
TRACEBACK_LINES = 10
"""How many lines a line with a traceback counts as."""
MAX_KINDS = 500
"""The most kinds that are counted separately."""

Kind = tuple[str, int, str, int, str]
"""Logger, level, file and line of the call, and format, since gunicorn logs everything from one line."""

_OTHERS: Kind = ("", logging.WARNING, "", 0, "")


class _Lines:
    """How many lines of a kind may be written at the monotonic time `at`, and how many were omitted since."""

    __slots__ = ("allowance", "at", "example", "omitted", "summary_due")

    def __init__(self, at: float) -> None:
        self.at, self.allowance = at, float(BURST_LINES)
        self.omitted, self.example, self.summary_due = 0, "", 0.0


class LimitedHandler(logging.StreamHandler):  # type: ignore[type-arg]  # no generic class when it runs
    """Writes to standard error at least the first line of each kind, and counts the lines it omits."""

    def __init__(
        self, summary_interval_s: float = SUMMARY_INTERVAL_S, lines_per_s: float = LINES_PER_S
    ) -> None:
        super().__init__()
        self._summary_interval_s, self._lines_per_s = summary_interval_s, lines_per_s
        self._kinds: dict[Kind, _Lines] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line or count it; the caller holds the lock of this handler."""
        try:
            now = time.monotonic()
            self._summarise(now)
            if self._allows(record, now):
                super().emit(record)
            elif self._timer is None or not self._timer.is_alive():  # timers do not survive a fork
                self._start_timer()
        except Exception:  # noqa: BLE001  as logging's own handlers do
            self.handleError(record)

    def close(self) -> None:
        """Write what was omitted; logging calls this when the process ends."""
        self.acquire()
        try:
            if self._timer is not None:
                self._timer.cancel()
            self._summarise(float("inf"))
        finally:
            self.release()
        super().close()

    def _allows(self, record: logging.LogRecord, now: float) -> bool:
        lines = self._lines_of(_kind(record), now)
        lines.allowance, lines.at = self._allowance_at(lines, now), now
        cost = TRACEBACK_LINES if record.exc_info or record.stack_info else 1
        if lines.allowance >= cost:
            lines.allowance -= cost
            return True
        if not lines.omitted:
            lines.summary_due, lines.example = now + self._summary_interval_s, record.getMessage()[:300]
        lines.omitted += 1
        return False

    def _lines_of(self, kind: Kind, now: float) -> _Lines:
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            for known, lines in list(self._kinds.items()):
                if self._allowance_at(lines, now) == BURST_LINES and not lines.omitted:
                    del self._kinds[known]
            if len(self._kinds) >= MAX_KINDS:
                kind = _OTHERS
        return self._kinds.setdefault(kind, _Lines(now))

    def _allowance_at(self, lines: _Lines, now: float) -> float:
        return min(BURST_LINES, lines.allowance + (now - lines.at) * self._lines_per_s)

    def _summarise(self, now: float) -> None:
        """Write how many lines were omitted of each kind whose summary is due."""
        for (logger, level, path, line, _), lines in self._kinds.items():
            if lines.omitted and lines.summary_due <= now:
                args = (lines.omitted, self._summary_interval_s, lines.example)
                lines.omitted = 0
                message = "and %d more like it in %g s: %s"
                super().emit(logging.LogRecord(logger, level, path, line, message, args, None))

    def _start_timer(self) -> None:
        """Summarise later, even if no further line is logged."""
        self._timer = threading.Timer(self._summary_interval_s, self._summarise_late)
        self._timer.daemon = True
        with suppress(RuntimeError):  # no thread can be started, so the next line summarises
            self._timer.start()

    def _summarise_late(self) -> None:
        self.acquire()
        try:
            self._summarise(time.monotonic())
            if any(lines.omitted for lines in self._kinds.values()):
                self._start_timer()
        finally:
            self.release()


def _kind(record: logging.LogRecord) -> Kind:
    form = str(record.msg) if record.args else ""
    return record.name, record.levelno, record.pathname, record.lineno, form
