"""From round to round, and what goes wrong on our side: it blames no host and leaves nothing behind."""

import asyncio
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from machines_server.poll.failures import Failure
from machines_server.poll.fetch import Fetcher
from tests.bodies import http
from tests.fakes import FakeEndpoint, FakeFleet, wait_until
from tests.poll.fetching import TIMEOUT_S, ask, one_round, targets
from tests.ports import free_port


def readable(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])


def test_a_caller_that_stalls_is_not_the_hosts_fault(fakes: FakeFleet) -> None:
    fetcher = Fetcher(TIMEOUT_S)
    silent = fakes.listen(None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answers = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        round_ = fetcher.fetch(targets(answers, silent.url()))
        while not readable(listener):
            assert next(round_) is None
        connection, _ = listener.accept()
        while not readable(connection):
            assert next(round_) is None
        connection.sendall(http(b"{}"))  # it lies there, in time, and nobody reads it
        time.sleep(TIMEOUT_S + 1)
        found = {one.url: one for one in round_ if one}
        connection.close()
    assert found[answers].failure in (None, Failure.OWN)
    assert found[silent.url()].failure is Failure.OWN
    assert "this server did not run in time to read the answer" in str(found[silent.url()].reason)
    assert ask(fetcher, silent.url())[0].failure is Failure.SILENT
    fetcher.close()


ONE_ROUND = """
import json, sys
from machines_server.poll.fetch import Fetcher
from machines_server.poll.targets import Target
for one in Fetcher(float(sys.argv[1])).fetch(map(Target, sys.argv[2:])):
    if one:
        ended = one.failure and one.failure.name, one.reason and one.reason.text
        print(json.dumps([one.url, *ended]), flush=True)
"""


def test_a_process_that_was_stopped_blames_nobody(fakes: FakeFleet) -> None:
    hosts = [fakes.listen(None), fakes.listen(None)]
    process = subprocess.Popen(
        [sys.executable, "-c", ONE_ROUND, "1", *(host.url() for host in hosts)], stdout=subprocess.PIPE
    )
    try:
        wait_until(lambda: all(host.asked_at for host in hosts))
        process.send_signal(signal.SIGSTOP)
        asked_at = hosts[0].asked_at[0]
        wait_until(lambda: time.monotonic() - asked_at > 2)
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    results = [json.loads(line) for line in output.splitlines()]
    assert [failure for _, failure, _ in results] == ["OWN", "OWN"]


WITHOUT_DESCRIPTORS = """
import json, os, resource, socket, sys
from machines_server.poll.fetch import Fetcher
from machines_server.poll.transfer import Target
socket.getaddrinfo("localhost", None)
fetcher = Fetcher(2)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    for fd in held[:int(sys.argv[1])]:
        os.close(fd)
def round():
    ended = [one for one in fetcher.fetch(map(Target, sys.argv[2:])) if one]
    ended = [[one.failure and one.failure.name, one.reason and one.reason.text] for one in ended]
    print(json.dumps(ended), flush=True)

round()
round()
for fd in held[int(sys.argv[1]):]:
    os.close(fd)
round()
"""


@pytest.mark.parametrize("left", [0, 2, 5])
def test_a_process_without_file_descriptors_blames_nobody_and_recovers(fakes: FakeFleet, left: int) -> None:
    host = fakes.listen(http(b"{}"))
    urls = [host.url(f"/{number}") for number in range(10)] + [host.url(host="localhost")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS, str(left), *urls],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    *exhausted, after = [json.loads(line) for line in done.stdout.splitlines()]
    for results in exhausted:
        failures = [failure for failure, _ in results]
        assert len(failures) == len(urls)
        assert "OWN" in failures
        assert set(failures) <= {"OWN", None}
        assert all("this server could not" in reason for failure, reason in results if failure)
    assert after == [[None, None]] * len(urls)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_connections_to_what_is_no_longer_asked_are_closed(fakes: FakeFleet) -> None:
    hosts = [fakes.listen(http(b"{}")) for _ in range(20)]
    before = descriptors()
    fetcher = Fetcher(2)
    assert {one.failure for one in ask(fetcher, *(host.url() for host in hosts), timeout_s=2)} == {None}
    kept, gone = hosts[:5], hosts[5:]
    assert {one.failure for one in ask(fetcher, *(host.url() for host in kept), timeout_s=2)} == {None}
    wait_until(lambda: all(host.open_connections == 0 for host in gone))
    assert all(host.open_connections == 1 for host in kept)
    assert list(fetcher.fetch([])) == []
    wait_until(lambda: all(host.open_connections == 0 for host in hosts))
    fetcher.close()
    wait_until(lambda: descriptors() <= before)


def test_many_rounds_with_other_urls_leave_nothing_behind(fetcher: Fetcher, fakes: FakeFleet) -> None:
    quick, silent = fakes.listen(http(b"{}")), fakes.listen(None)
    refuses = f"http://127.0.0.1:{free_port()}/"
    before = descriptors()
    for number in range(4):
        urls = [host.url(f"/{number}-{one}") for one in range(20) for host in (quick, silent)]
        one_round(fetcher, [*urls, refuses, "http://localhost:1/"])
    assert list(fetcher.fetch([])) == []
    wait_until(lambda: quick.open_connections + silent.open_connections == 0)
    wait_until(lambda: descriptors() <= before)


def hosts_of_all_kinds(fakes: FakeFleet) -> dict[str, Failure | None]:
    endpoints: list[tuple[FakeEndpoint, Failure | None]] = [
        (fakes.listen(http(b"{}")), None),
        (fakes.listen(None), Failure.SILENT),
        (fakes.listen(http(b"", "500 Oops")), Failure.BAD_ANSWER),
    ]
    expected = {endpoint.url(): failure for endpoint, failure in endpoints}
    return expected | {f"http://127.0.0.1:{free_port()}/": Failure.UNREACHABLE}


def test_a_round_that_was_left_in_the_middle_does_not_spoil_the_next(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    expected = hosts_of_all_kinds(fakes)
    for steps in range(4):
        round_ = fetcher.fetch(targets(*expected))
        for _ in range(steps):
            next(round_)
        del round_
        results = ask(fetcher, *expected)
        assert {one.url: one.failure for one in results} == expected


def test_a_fetcher_that_is_closed_in_the_middle_closes_its_connections(fakes: FakeFleet) -> None:
    silent = fakes.listen(None)
    before = descriptors()
    fetcher = Fetcher(20)
    round_ = fetcher.fetch(targets(silent.url()))
    while not silent.asked_at:
        assert next(round_) is None
    fetcher.close()
    del round_
    wait_until(lambda: silent.open_connections == 0)
    wait_until(lambda: descriptors() <= before)


def test_a_waiting_caller_hears_at_least_five_times_a_second(fakes: FakeFleet) -> None:
    fetcher = Fetcher(2)
    steps = list(fetcher.fetch(targets(fakes.listen(None).url())))
    fetcher.close()
    assert len(steps) >= 5  # half of them may come late
    assert steps[:-1] == [None] * (len(steps) - 1)


def test_a_kept_connection_that_its_host_closes_does_not_keep_a_round_awake(fakes: FakeFleet) -> None:
    async def answer_and_close(writer: asyncio.StreamWriter) -> None:
        writer.write(http(b"{}"))
        await writer.drain()
        await asyncio.sleep(0.1)  # the answer is read, and nobody waits for this connection

    fetcher = Fetcher(1)
    closing, silent = fakes.scripted(answer_and_close), fakes.listen(None)
    for _ in range(3):
        steps = list(fetcher.fetch(targets(closing.url(), silent.url())))
        assert [one.failure for one in steps if one] == [None, Failure.SILENT]
        assert len(steps) < 50
    fetcher.close()


def test_more_hosts_than_one_multi_holds_are_all_answered(fakes: FakeFleet) -> None:
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 2_300
    if most != resource.RLIM_INFINITY and most < 3 * count:
        pytest.skip(f"a process may have {most} descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, 3 * count), most))
    try:
        host = fakes.listen(http(b"{}"))
        urls = [host.url(f"/{number}") for number in range(count)]
        with closing(Fetcher(60)) as fetcher:
            for _ in range(2):
                assert {one.failure for one in one_round(fetcher, urls).ended} == {None}
    finally:
        wait_until(lambda: host.open_connections == 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def test_an_environment_variable_cannot_make_it_verbose_or_trust_a_netrc(
    fetcher: Fetcher, fakes: FakeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert os.environ["HOME"] == str(tmp_path)
    host = fakes.listen(http(b"{}"))
    ask(fetcher, host.url())
    assert b"Authorization" not in host.requests[0]
