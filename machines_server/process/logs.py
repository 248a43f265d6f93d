"""Logging, as text or JSON, always to standard error."""

import json
import logging
import sys
import threading
from types import TracebackType
from typing import Any

from machines_server.core.text import printable
from machines_server.core.times import rfc3339

MAX_LINE_CHARACTERS = 4000
"""Characters of a message, or of a line of a traceback."""
MAX_TRACEBACK_LINES = 200

log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's time (UTC), level, logger, message and process, and its traceback if it has one."""
        line: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _line(record.getMessage()),
            "pid": record.process,
        }
        if traceback := _traceback(self, record):
            line["traceback"] = "\n".join(traceback)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time in UTC, level, process and message; only lines of a traceback are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, followed by its traceback if it has one."""
        at, message = rfc3339(record.created), _line(record.getMessage())
        head = f"{at} {record.levelname:<7} [{record.process}] {message}"
        return "\n  ".join([head, *_traceback(self, record)])


def _line(text: str) -> str:
    more = len(text) - MAX_LINE_CHARACTERS
    return (
        printable(text)
        if more <= 0
        else f"{printable(text[:MAX_LINE_CHARACTERS])}... and {more:,} more characters"
    )


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """The lines of a record's traceback and stack; only the first and last if there are too many."""
    lines: list[str] = []
    if record.exc_info:
        lines += formatter.formatException(record.exc_info).split("\n")
    if record.stack_info:
        lines += record.stack_info.split("\n")
    if (more := len(lines) - MAX_TRACEBACK_LINES) > 0:
        half = MAX_TRACEBACK_LINES // 2
        lines[half:-half] = [f"... {more:,} lines omitted"]
    return [_line(line) for line in lines]


def log_config(level: str, form: str) -> dict[str, Any]:
    """The configuration for `logging.config.dictConfig` and for gunicorn."""
    formatter = JsonFormatter if form == "json" else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {
            "stderr": {"class": "log_limit.handler.LimitedHandler", "formatter": "line"},
        },
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {
            "apscheduler": {"level": "ERROR"},  # it warns about skipped work, which is intended
            "gunicorn.error": {"level": level.upper(), "propagate": True, "handlers": []},
            "gunicorn.access": {"propagate": False, "handlers": []},
        },
    }


def log_uncaught() -> None:
    """Log Python's warnings, and exceptions that end a thread or the process."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_end_of_process
    threading.excepthook = _log_end_of_thread
    sys.unraisablehook = _log_unraisable


def _log_end_of_process(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, at)
    else:
        log.critical("an unexpected exception ends this process", exc_info=(kind, error, at))


def _log_end_of_thread(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread else "?"
    exc_info = args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    log.error("an unexpected exception ends the thread %s", name, exc_info=exc_info)


def _log_unraisable(args: "sys.UnraisableHookArgs") -> None:
    exc_info = args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    message = args.err_msg or "an exception is ignored in"
    log.error("%s: %r", message, args.object, exc_info=exc_info)
