"""Group commit: one thread writes for all that want to write at the same moment."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

import pytest

from machines_server.store.group_commit import GroupCommit, Take

THREADS = 8


class Writing:
    """Writes numbers, each batch when it is allowed to."""

    def __init__(self, most: int | None = None) -> None:
        self.batches = list[list[int]]()
        self.began, self.may_end = threading.Semaphore(0), threading.Semaphore(0)
        self.fails: str | None = None
        """Whether the next batch fails before or after its numbers were taken."""
        self.group = GroupCommit[int](self._write, most)

    def _write(self, take: Take[int]) -> None:
        fails, self.fails = self.fails, None
        self.began.release()
        assert self.may_end.acquire(timeout=10)
        if fails == "before":
            raise OSError(fails)
        self.batches.append(list(take()))
        if fails == "after":
            raise OSError(fails)

    def add_all(self, threads: ThreadPoolExecutor) -> list[Future[None]]:
        """The first thread begins to write, and the others come while it does."""
        added = [threads.submit(self.group.add, 0)]
        assert self.began.acquire(timeout=10)
        have_come = threading.Barrier(THREADS)

        def add(number: int) -> None:
            have_come.wait(10)
            self.group.add(number)

        added += [threads.submit(add, number) for number in range(1, THREADS)]
        have_come.wait(10)
        time.sleep(0.5)
        for _ in range(THREADS):
            self.may_end.release()
        return added


def test_those_who_come_until_it_takes_them_are_written_together() -> None:
    writing = Writing()
    with ThreadPoolExecutor(THREADS) as threads:
        for one in writing.add_all(threads):
            one.result(timeout=10)
    (batch,) = writing.batches
    assert sorted(batch) == list(range(THREADS))


@pytest.mark.parametrize("fails", ["before", "after"])
def test_a_failure_reaches_the_thread_that_wrote_and_what_it_had_not_taken_is_written(fails: str) -> None:
    writing = Writing()
    writing.fails = fails
    with ThreadPoolExecutor(THREADS) as threads:
        first, *others = writing.add_all(threads)
        with pytest.raises(OSError, match=fails):
            first.result(timeout=10)
        for one in others:
            one.result(timeout=10)
    assert sorted(chain(*writing.batches)) == list(range(fails == "before", THREADS))


def test_at_most_so_many_are_written_at_once() -> None:
    writing = Writing(most=3)
    with ThreadPoolExecutor(THREADS) as threads:
        for one in writing.add_all(threads):
            one.result(timeout=10)
    assert sorted(chain(*writing.batches)) == list(range(THREADS))
    assert [len(batch) for batch in writing.batches] == [3, 3, 2]


def test_one_after_the_other_each_is_written_by_itself() -> None:
    writing = Writing()
    for number in range(3):
        writing.may_end.release()
        writing.group.add(number)
    assert writing.batches == [[0], [1], [2]]
