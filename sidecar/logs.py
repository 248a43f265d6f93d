"""The log on standard error: control characters are escaped, and repeated lines are rate limited."""

from __future__ import annotations

import logging
import re
import sys
import threading
from types import TracebackType

from log_limit.handler import LimitedHandler

MAX_LINE_CHARACTERS = 4000
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)

log = logging.getLogger(__name__)


def start_log() -> None:
    """Log to standard error from now on."""
    handler = LimitedHandler()
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.captureWarnings(capture=True)
    sys.excepthook = _end_process
    threading.excepthook = _end_thread


def _end_process(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    log.critical("an unexpected exception ends this process", exc_info=(kind, error, at))


def _end_thread(found: threading.ExceptHookArgs) -> None:
    name = found.thread.name if found.thread else "?"
    error = found.exc_value or found.exc_type()
    what = "an unexpected exception ends the thread %s"
    log.error(what, name, exc_info=(found.exc_type, error, found.exc_traceback))


class LineFormatter(logging.Formatter):
    """Escapes control characters; tracebacks keep their lines, which are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging names it
        """The line without its traceback."""
        return _line(super().formatMessage(record))

    def formatException(self, ei: logging._SysExcInfoType) -> str:  # noqa: N802  logging names it
        """The traceback."""
        return "\n".join(f"  {_line(line)}" for line in super().formatException(ei).split("\n"))


def _line(text: str) -> str:
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text[:MAX_LINE_CHARACTERS])
