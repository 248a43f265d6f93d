"""Names to addresses, however slow or dead the name service is."""

import json
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from machines_server.poll.fetch import Fetcher
from machines_server.poll.resolve import MAX_LOOKUPS, Resolver
from tests.audit import audited
from tests.bodies import http
from tests.fakes import FakeFleet, wait_until
from tests.poll.fetching import ran_in_time, targets
from tests.tools import tool

Ended = tuple[str, str | None, str | None, float]
"""Host, failure, reason, and when."""
Ask = Callable[..., list[Ended]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Ask hosts in a world whose name service answers `delay_s` late."""
    program = [sys.executable, "-m", "tests.poll.name_service"]
    new_world = [tool("unshare"), "--map-root-user", "--mount", "--net"]
    tool("mount")
    tried = subprocess.run([*new_world, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"namespaces are not permitted here: {tried.stderr.strip()}")

    def ask(timeout_s: float, delay_s: float, *hosts: str) -> list[Ended]:
        for _ in range(20):
            found = ask_once(timeout_s, delay_s, *hosts)
            ended: list[Ended] = [(host, *more) for host, *more in found["ended"]]
            if ran_in_time([reason for _, _, reason, _ in ended], found["longest_step_s"], timeout_s):
                return ended
        raise AssertionError("no process ran in time")

    def ask_once(timeout_s: float, delay_s: float, *hosts: str) -> Any:
        done = subprocess.run(
            [*new_world, *program, str(tmp_path), str(timeout_s), str(delay_s), *hosts],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def test_a_dead_name_service_holds_up_nobody_whose_address_is_known(ask: Ask) -> None:
    ended = ask(2, 0, "dead*200", "127.0.0.1", "localhost")
    assert {(host, failure) for host, failure, _, _ in ended[:2]} == {
        ("127.0.0.1", None),
        ("localhost", None),
    }
    assert len(ended) == 202
    assert {(failure, reason) for _, failure, reason, _ in ended[2:]} == {
        ("UNREACHABLE", "name not resolved within 2 s")
    }
    assert max(s for *_, s in ended) < 10


def test_slow_names_hold_up_nobody_and_are_still_answered_in_time(ask: Ask) -> None:
    ended = ask(10, 1, "slow*50", "127.0.0.1")
    assert ended[0][0] == "127.0.0.1"
    assert [failure for _, failure, _, _ in ended] == [None] * 51


def test_a_name_that_the_name_service_denies_is_not_found_at_once(ask: Ask) -> None:
    ended = ask(30, 0, "a.none")
    assert [one[:3] for one in ended] == [("a.none", "UNREACHABLE", "name not found")]
    assert ended[0][3] < 15


def test_more_names_than_can_be_looked_up_at_once_are_looked_up_in_turn(ask: Ask) -> None:
    ended = ask(20, 0.3, f"slow*{2 * MAX_LOOKUPS + 50}")
    assert {failure for _, failure, _, _ in ended} == {None}


def test_a_name_that_had_to_wait_for_others_too_long_is_not_to_blame(ask: Ask) -> None:
    ended = ask(1, 0, f"dead*{MAX_LOOKUPS + 20}")
    failures = [(failure, reason) for _, failure, reason, _ in ended]
    assert failures.count(("OWN", "this server was looking up too many other names")) == 20
    assert failures.count(("UNREACHABLE", "name not resolved within 1 s")) == MAX_LOOKUPS


def resolved(host: str) -> Resolver:
    resolver = Resolver()
    resolver.ask(host)
    wait_until(lambda: not resolver.looks_up(host))
    return resolver


def test_localhost_is_this_machine() -> None:
    resolver = resolved("localhost")
    assert resolver.addresses("localhost")
    assert all(ip_address(address).is_loopback for address in resolver.addresses("localhost"))
    assert resolver.error("localhost") is None
    assert resolver.own_fault("localhost") is None


@pytest.mark.parametrize("host", ["nosuch.invalid", "a..b", "x" * 64 + ".invalid", "", "-"])
def test_a_name_that_has_no_address_has_a_reason(host: str) -> None:
    resolver = resolved(host)
    assert resolver.addresses(host) == ()
    assert (resolver.error(host) or "").startswith("name not ")
    assert resolver.own_fault(host) is None


def test_a_name_with_only_a_link_local_address_has_a_reason_and_is_not_asked_for_again_and_again() -> None:
    resolver = resolved("fe80::1%lo")
    assert resolver.addresses("fe80::1%lo") == ()
    assert resolver.error("fe80::1%lo") == "name not resolved: it has only link-local addresses"


def test_names_that_are_no_longer_declared_are_forgotten() -> None:
    resolver = resolved("localhost")
    resolver.forget_all_but({"localhost"})
    assert resolver.addresses("localhost")
    resolver.forget_all_but(set())
    with pytest.raises(KeyError):
        resolver.addresses("localhost")


def test_an_address_is_never_looked_up(fakes: FakeFleet) -> None:
    host = fakes.listen(http(b"{}"))
    fetcher = Fetcher(2)
    urls = [host.url(), "http://127.0.0.2:1/", "http://[::1]:1/"]
    with audited("socket.getaddrinfo") as looked_up:
        assert len([one for one in fetcher.fetch(targets(*urls)) if one]) == 3
        assert looked_up == []
        assert len([one for one in fetcher.fetch(targets(host.url(host="localhost"))) if one]) == 1
        assert looked_up == ["localhost"]
        list(fetcher.fetch(targets(host.url(host="localhost"))))
        assert looked_up == ["localhost"]
    fetcher.close()
