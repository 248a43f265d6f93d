"""Rounds of requests as a test makes them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from machines_server.core.sample import PollResult
from machines_server.poll.cycle import Polled
from machines_server.poll.failures import Failure
from machines_server.poll.fetch import Fetched, Fetcher
from machines_server.poll.targets import Target

TIMEOUT_S = 0.5
NOT_READ_IN_TIME = "this server did not run in time to read the answer"


def targets(*urls: str) -> list[Target]:
    """URLs that need nothing else."""
    return [Target(url) for url in urls]


@dataclass(frozen=True)
class Round:
    """How every URL of one round ended, in the order in which they did."""

    ended: list[Fetched]
    ended_after_s: list[float]
    longest_step_s: float
    """Between two steps of the fetcher."""

    def check_blame(self, timeout_s: float) -> bool:
        """Whether this process ran in time; the fetcher may deny it only after standing still."""
        own = {one.reason.text for one in self.ended if one.reason and one.failure is Failure.OWN}
        assert own <= {NOT_READ_IN_TIME}
        return ran_in_time(own, self.longest_step_s, timeout_s)


def ran_in_time(reasons: Iterable[str | None], longest_step_s: float, timeout_s: float) -> bool:
    """Whether no reason says that this process stood still; one may only if it did."""
    if NOT_READ_IN_TIME not in reasons:
        return True
    assert longest_step_s > min(0.5, 0.5 * timeout_s), "it blames itself, and never stood still"
    return False


def one_round(fetcher: Fetcher, urls: Iterable[str]) -> Round:
    """Ask every URL, which ends exactly once."""
    urls = list(dict.fromkeys(urls))
    ended, ended_after_s, longest_s = [], [], 0.0
    began = before = time.monotonic()
    for one in fetcher.fetch(targets(*urls)):
        now = time.monotonic()
        longest_s, before = max(longest_s, now - before), now
        if one is not None:
            ended.append(one)
            ended_after_s.append(now - began)
    assert sorted(one.url for one in ended) == sorted(urls)
    assert all((one.failure is None) == (one.reason is None) for one in ended)
    return Round(ended, ended_after_s, longest_s)


def round_in_time(fetcher: Fetcher, urls: Iterable[str], timeout_s: float) -> Round:
    """A round in which this process was not starved by others; `timeout_s` is that of the fetcher."""
    urls = list(urls)
    for _ in range(20):
        found = one_round(fetcher, urls)
        if found.check_blame(timeout_s):
            return found
    raise AssertionError("this process did not run in time in any of 20 rounds")


def ask(fetcher: Fetcher, *urls: str, timeout_s: float = TIMEOUT_S) -> list[Fetched]:
    """How each URL ended in a round in which this process was not starved by others."""
    by_url = {one.url: one for one in round_in_time(fetcher, urls, timeout_s).ended}
    return [by_url[url] for url in urls]


def failure(fetcher: Fetcher, url: str) -> tuple[Failure | None, str | None]:
    (ended,) = ask(fetcher, url)
    assert ended.body == b""
    return ended.failure, ended.reason.text if ended.reason else None


def results(came: Iterable[Polled]) -> dict[tuple[str, str], PollResult]:
    """What was polled, by machine and kind of endpoint."""
    return {(one.machine, one.endpoint.kind): one for one in came if isinstance(one, PollResult)}
