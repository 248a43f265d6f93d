"""What is logged, and how a line looks: text for people, JSON for machines, always on standard error."""

import json
import logging
from typing import Any

from machines_server.core.times import rfc3339


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record with its time (UTC), level, logger and message, and the traceback if there is one."""
        line: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time in UTC, level, process and message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s [%(process)d] %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802  logging names both
        """RFC 3339 in UTC, whatever the zone of the machine."""
        return rfc3339(record.created) or ""


def log_config(level: str, form: str) -> dict[str, Any]:
    """The configuration for `logging.config.dictConfig`; gunicorn takes the same."""
    formatter = JsonFormatter if form == "json" else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {
            "apscheduler": {"level": "WARNING"},
            "gunicorn.error": {"level": level.upper(), "propagate": True, "handlers": []},
            "gunicorn.access": {"propagate": False, "handlers": []},
        },
    }
