"""The poller's jobs: work that APScheduler begins at once, each kind in a thread of its own."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

_ALWAYS_DUE = datetime(1, 1, 2, tzinfo=UTC)
"""The scheduler begins a job of this date at once, whatever the wall clock says: if that is set, jobs neither
wait nor count as missed."""


class Jobs:
    """Runs jobs of several kinds, so that none of one kind delays another."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self._scheduler = _Scheduler(
            timezone=UTC,
            executors={kind: ThreadPoolExecutor(1) for kind in kinds},
            job_defaults={"max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.start()

    def begin(self, kind: str, work: Callable[..., object], *args: Any, queued: bool = False) -> None:
        """Begin work now; while work of that kind still runs it is skipped, unless it may be queued."""
        self._scheduler.add_job(
            work,
            "date",
            args,
            run_date=_ALWAYS_DUE,
            id=None if queued else kind,
            executor=kind,
            replace_existing=True,
        )

    def close(self) -> None:
        """Begin no more, and wait for those that run."""
        self._scheduler.shutdown()


class _Scheduler(BackgroundScheduler):  # type: ignore[misc]  # APScheduler has no types
    """A scheduler whose thread survives being shut down while it begins a job."""

    def remove_job(self, job_id: str, jobstore: str | None = None) -> None:
        """Remove a job, which shutting down may have removed already."""
        with suppress(JobLookupError):
            super().remove_job(job_id, jobstore)
