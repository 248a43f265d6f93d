"""What is read from this host, even when parts cannot be read."""

import logging
from collections import namedtuple
from collections.abc import Sequence
from itertools import count

import psutil
import pytest

from host_facts.disk import Mount
from host_facts.facts import CpuTimes, Disk, Facts, Memory, summed
from host_facts.host import MOUNTS_INTERVAL_S, Host, HostReading

KEYS_OF = {
    "cpu_times": ["window_s", "cpu_percent"],
    "cpu_count": ["cpu_count"],
    "load_avg": ["load_avg"],
    "memory": ["ram_total_bytes", "ram_used_bytes", "ram_available_bytes"],
    "disk": ["disk_total_bytes", "disk_used_bytes", "disk_available_bytes"],
    "boot_time": ["uptime_s"],
}


class Known(Facts):
    """Facts that a test has set; one method may be told to fail."""

    def __init__(self, failing: str = "", error: Exception | None = None) -> None:
        self.failing = failing
        self.error = error or OSError("no such file")
        self.times = CpuTimes(0, 0)

    def _or_fail(self, name: str) -> None:
        if self.failing == name:
            raise self.error

    def hostname(self) -> str:
        self._or_fail("hostname")
        return "here"

    def cpu_times(self) -> CpuTimes:
        self._or_fail("cpu_times")
        return self.times

    def cpu_count(self) -> int:
        self._or_fail("cpu_count")
        return 4

    def load_avg(self) -> list[float]:
        self._or_fail("load_avg")
        return [0.0, 0.5, 1.0]

    def memory(self) -> Memory:
        self._or_fail("memory")
        return Memory(100, 0, 90)

    def arc_reclaimable(self) -> int:
        return 0

    def mounts(self) -> list[Mount]:
        self._or_fail("mounts")
        return []

    def data_mount_point(self, mounts: Sequence[Mount]) -> str:
        self._or_fail("data_place")
        return mounts[0].place if mounts else "/"

    def disk(self, place: str) -> Disk:
        self._or_fail("disk")
        return Disk(1000, 10, 940) if place == "/" else Disk(2000, 20, 1900)

    def boot_time(self) -> float:
        self._or_fail("boot_time")
        return 0.0


def test_every_key_of_a_reading_is_known_to_these_tests() -> None:
    tested = {key for keys in KEYS_OF.values() for key in keys}
    assert tested == {*HostReading.__annotations__}, "name them in KEYS_OF, and their fact in Known"


def test_this_very_host_is_read() -> None:
    reading = Host().read()
    assert reading["ram_total_bytes"] == psutil.virtual_memory().total
    assert reading["cpu_count"] == psutil.cpu_count()
    assert reading["disk_total_bytes"]
    assert reading["disk_available_bytes"] is not None
    assert reading["disk_available_bytes"] <= reading["disk_total_bytes"]
    assert reading["load_avg"] is not None
    assert len(reading["load_avg"]) == 3
    assert Host().hostname() != ""


def test_cpu_is_null_until_there_is_a_window() -> None:
    reading = Host(Known()).read()
    assert (reading["window_s"], reading["cpu_percent"]) == (None, None)


def test_cpu_is_the_busy_share_of_the_window_on_the_monotonic_clock() -> None:
    facts, ticks = Known(), count(10, 2)
    host = Host(facts, clock=lambda: float(next(ticks)))
    host.read()
    facts.times = CpuTimes(busy_s=1, idle_s=7)
    reading = host.read()
    assert (reading["window_s"], reading["cpu_percent"]) == (2.0, 12.5)


@pytest.mark.parametrize(("busy_s", "idle_s", "percent"), [(0, 4, 0.0), (4, 0, 100.0), (5, -1, 100.0)])
def test_cpu_goes_from_0_to_100(busy_s: float, idle_s: float, percent: float) -> None:
    facts = Known()
    host = Host(facts)
    host.read()
    facts.times = CpuTimes(busy_s, idle_s)
    assert host.read()["cpu_percent"] == percent


def test_counters_that_stand_still_or_go_back_give_no_percentage() -> None:
    facts = Known()
    facts.times = CpuTimes(10, 10)
    host = Host(facts)
    host.read()
    assert host.read()["cpu_percent"] is None
    facts.times = CpuTimes(1, 1)
    assert host.read()["cpu_percent"] is None
    facts.times = CpuTimes(22, 22)  # the reading before it was the wrong one, perhaps
    assert host.read()["cpu_percent"] is None
    facts.times = CpuTimes(23, 23)
    assert host.read()["cpu_percent"] == 50


def test_guest_time_is_not_counted_twice_and_waiting_for_a_disk_is_idle() -> None:
    linux = namedtuple("linux", "user nice system idle iowait irq softirq steal guest guest_nice")
    assert summed(linux(10, 2, 3, 50, 5, 1, 1, 4, 10, 2)) == CpuTimes(busy_s=21, idle_s=55)


def test_windows_interrupt_time_is_not_counted_twice() -> None:
    windows = namedtuple("windows", "user system idle interrupt dpc")
    assert summed(windows(10, 5, 50, 2, 1)) == CpuTimes(busy_s=15, idle_s=50)


@pytest.mark.parametrize("failing", KEYS_OF)
@pytest.mark.parametrize(
    "error",
    [OSError("no"), psutil.AccessDenied(), TypeError("no"), KeyError("no"), RuntimeError(), Exception("no")],
)
def test_what_fails_is_null_and_the_rest_is_read(failing: str, error: Exception) -> None:
    facts = Known()
    host = Host(facts)
    host.read()
    facts.times = CpuTimes(1, 1)
    facts.failing, facts.error = failing, error
    reading = host.read()
    assert sorted(key for key, value in reading.items() if value is None) == sorted(KEYS_OF[failing])


def test_a_reading_that_failed_is_not_the_last_good_value_and_comes_back() -> None:
    facts = Known()
    host = Host(facts)
    assert host.read()["ram_used_bytes"] == 0
    facts.failing = "memory"
    assert host.read()["ram_used_bytes"] is None
    facts.failing = ""
    assert host.read()["ram_used_bytes"] == 0


def test_counters_that_fail_once_are_null_once_and_the_next_window_says_that_it_is_longer() -> None:
    facts, ticks = Known(), count(0, 1)
    host = Host(facts, clock=lambda: float(next(ticks)))
    host.read()
    facts.failing = "cpu_times"
    reading = host.read()
    assert (reading["window_s"], reading["cpu_percent"]) == (None, None)
    facts.failing, facts.times = "", CpuTimes(1, 3)
    reading = host.read()
    assert (reading["window_s"], reading["cpu_percent"]) == (2.0, 25.0)


@pytest.mark.parametrize("failing", ["mounts", "data_place"])
def test_the_root_is_shown_while_it_cannot_be_told_where_the_data_is(failing: str) -> None:
    reading = Host(Known(failing)).read()
    assert (reading["disk_total_bytes"], reading["disk_available_bytes"]) == (1000, 940)


def test_a_disk_that_is_mounted_later_is_found() -> None:
    class Growing(Known):
        found: list[Mount]

        def mounts(self) -> list[Mount]:
            return self.found

    facts, now = Growing(), [0.0]
    facts.found = []
    host = Host(facts, clock=lambda: now[0])
    assert host.read()["disk_total_bytes"] == 1000
    facts.found = [Mount("/dev/sdb1", "/var", "ext4", is_writable=True)]
    now[0] += MOUNTS_INTERVAL_S
    assert host.read()["disk_total_bytes"] == 2000


def test_a_reason_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    host = Host(Known(failing="disk"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            host.read()
    assert caplog.messages == ["disk of this host cannot be read: OSError: no such file"]


def test_a_host_that_does_not_know_its_name_has_an_empty_one() -> None:
    assert Host(Known(failing="hostname")).hostname() == ""
