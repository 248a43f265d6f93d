"""Rounds of requests as a test makes them."""

from collections.abc import Iterable

from machines_server.poll.fetch import Failure, Fetched, Fetcher

TIMEOUT_S = 0.5


def once(fetcher: Fetcher, urls: Iterable[str]) -> dict[str, Fetched]:
    """One round: every URL ends exactly once."""
    urls = list(dict.fromkeys(urls))
    ended = [one for one in fetcher.fetch(urls) if one is not None]
    found = {one.url: one for one in ended}
    assert sorted(found) == sorted(urls)
    assert len(ended) == len(urls)
    assert all((one.failure is None) == (one.reason is None) for one in ended)
    return found


def ask(fetcher: Fetcher, *urls: str) -> list[Fetched]:
    """A round in which this process was not starved by others; it says so itself when it was."""
    for _ in range(5):
        found = once(fetcher, urls)
        if not any(one.failure is Failure.OWN for one in found.values()):
            break
    return [found[url] for url in urls]


def failure(fetcher: Fetcher, url: str) -> tuple[Failure | None, str | None]:
    (ended,) = ask(fetcher, url)
    assert ended.body == b""
    return ended.failure, ended.reason
