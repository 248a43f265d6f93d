"""Logging of unexpected failures, each traceback only once."""

import logging
from types import TracebackType


def logger_of_failures(name: str) -> logging.Logger:
    """A logger that drops repeated records with a traceback.

    A record is repeated if message, type of exception and line that raised it are the same.
    """
    log = logging.getLogger(name)
    log.addFilter(_Once())
    return log


class _Once(logging.Filter):
    """Passes records without a traceback, and each traceback once."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[tuple[str, type[BaseException] | None, str, int]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.exc_info:
            return True
        kind, _, traceback = record.exc_info
        key = record.getMessage(), kind, *_place(traceback)
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new


def _place(at: TracebackType | None) -> tuple[str, int]:
    """The file and line that raised the exception."""
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return ("", 0) if at is None else (at.tb_frame.f_code.co_filename, at.tb_lineno)
