"""What the sidecar reads from the host, also when the host does not tell."""

import logging
from collections import namedtuple
from itertools import count

import psutil
import pytest

from sidecar.host import CpuTimes, Disk, Facts, Host, Memory, summed

KEYS_OF = {
    "cpu_times": ["window_s", "cpu_percent"],
    "cpu_count": ["cpu_count"],
    "load_avg": ["load_avg"],
    "memory": ["ram_total_bytes", "ram_used_bytes", "ram_available_bytes"],
    "disk": ["disk_total_bytes", "disk_used_bytes"],
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

    def disk(self) -> Disk:
        self._or_fail("disk")
        return Disk(1000, 10)

    def boot_time(self) -> float:
        self._or_fail("boot_time")
        return 0.0


def test_this_very_host_is_read() -> None:
    reading = Host().read()
    assert reading["ram_total_bytes"] == psutil.virtual_memory().total
    assert reading["cpu_count"] == psutil.cpu_count()
    assert reading["disk_total_bytes"] == psutil.disk_usage("/").total
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
    facts.times = CpuTimes(2, 2)
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
    [OSError("no"), psutil.AccessDenied(), NotImplementedError("no"), ValueError("no"), IndexError("no")],
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


def test_a_cpu_window_never_spans_a_failed_reading() -> None:
    facts = Known()
    host = Host(facts)
    host.read()
    facts.failing = "cpu_times"
    host.read()
    facts.failing, facts.times = "", CpuTimes(1, 1)
    assert host.read()["cpu_percent"] is None
    facts.times = CpuTimes(2, 2)
    assert host.read()["cpu_percent"] == 50


def test_a_reason_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    host = Host(Known(failing="disk"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            host.read()
    assert caplog.messages == ["disk of this host cannot be read: OSError: no such file"]


def test_a_host_that_does_not_know_its_name_has_an_empty_one() -> None:
    assert Host(Known(failing="hostname")).hostname() == ""
