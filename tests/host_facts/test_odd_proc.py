"""A /proc that is odd for a moment, or always: null there, well again afterwards, and the rest is read."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from host_facts.host import Host
from machines_server.services.host import HostService
from tests.host_facts.proc import AVAILABLE_KIB, KIB, TOTAL_KIB, Proc
from tests.sidecar.running import GIB, Sidecar, wait_until

SIDECAR_ON = (
    "import psutil, runpy, sys\n"
    "psutil.PROCFS_PATH = sys.argv.pop()\n"
    "runpy.run_module('sidecar', run_name='__main__')\n"
)
ODD_STATS = {
    "short": "cpu  100 0\n",
    "cut": "cpu  100 0 0 30",
    "without numbers": "cpu\n",
    "empty": "",
    "no text": "\x00" * 64,
    "words": "cpu  one two three four five six seven eight nine ten\n",
}
Start = Callable[..., Sidecar]


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proc:
    """What psutil reads in this process."""
    proc = Proc(tmp_path / "proc")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc.folder))
    return proc


@pytest.mark.parametrize("odd", ODD_STATS)
def test_an_odd_stat_is_null_for_one_sample_and_the_next_is_well(
    odd: str, proc: Proc, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host()
    host.read()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            proc.write("stat", ODD_STATS[odd])
            reading = host.read()
    assert [key for key, value in reading.items() if value is None] == ["window_s", "cpu_percent", "uptime_s"]
    assert len(caplog.messages) == 2  # counters and uptime, once each
    proc.count(200, 600)
    reading = host.read()
    assert reading["cpu_percent"] == 25
    assert None not in reading.values()


@pytest.mark.parametrize("odd", ["", "MemTotal:\n", "MemTotal: 12 kB\n", "nonsense", "MemTotal: many kB\n"])
def test_an_odd_meminfo_costs_memory_alone(odd: str, proc: Proc) -> None:
    host = Host()
    host.read()
    proc.count(200, 600)
    proc.write("meminfo", odd)
    reading = host.read()
    assert [key for key, value in reading.items() if value is None] == [
        "ram_total_bytes",
        "ram_used_bytes",
        "ram_available_bytes",
    ]


def test_the_servers_own_machine_is_read_by_the_same_rules(proc: Proc) -> None:
    proc.write("stat", ODD_STATS["short"])
    answer = HostService().system()
    assert (answer.cpu_percent, answer.uptime_s) == (None, None)
    assert answer.ram_total_gb == round(TOTAL_KIB * KIB / GIB, 2)
    assert answer.disk_available_gb
    proc.write("meminfo", "MemTotal:\n")
    assert HostService().system().ram_used_gb is None


def test_a_sidecar_goes_on_after_an_odd_stat(start: Start, tmp_path: Path) -> None:
    proc = Proc(tmp_path / "proc")
    sidecar = start(["-c", SIDECAR_ON, str(proc.folder)])
    sidecar.sample_when(lambda sample: sample["uptime_s"] is not None, "the host is read")
    proc.write("stat", ODD_STATS["short"])
    odd = sidecar.sample_when(lambda sample: sample["uptime_s"] is None, "the odd stat is seen")
    assert odd["cpu_percent"] is None
    assert odd["ram_total_bytes"] == TOTAL_KIB * KIB
    proc.count(300, 900)
    later = sidecar.sample_when(lambda sample: sample["uptime_s"] is not None, "the next sample is well")
    assert later["sampled_at"] > odd["sampled_at"]
    assert sidecar.log.count("TypeError") == 1


def test_a_sidecar_of_which_a_thread_dies_ends_in_failure_with_one_line(start: Start, tmp_path: Path) -> None:
    code = (
        "import pathlib, runpy, sys, threading, time\n"
        "trigger = pathlib.Path(sys.argv.pop())\n"
        "def die():\n"
        "    while not trigger.exists(): time.sleep(0.02)\n"
        "    raise MemoryError('no more')\n"
        "threading.Thread(target=die, name='sampler').start()\n"
        "runpy.run_module('sidecar', run_name='__main__')\n"
    )
    sidecar = start(["-c", code, str(tmp_path / "now")])
    sidecar.sample()
    before = sidecar.log
    (tmp_path / "now").touch()
    assert wait_until(lambda: sidecar.process.poll(), "it ends") == 1
    (line,) = sidecar.log.removeprefix(before).splitlines()
    assert "the thread sampler died (MemoryError: no more at " in line


def used_and_available() -> tuple[Any, Any]:
    reading = Host().read()
    return reading["ram_used_bytes"], reading["ram_available_bytes"]


USED, AVAILABLE = (TOTAL_KIB - AVAILABLE_KIB) * KIB, AVAILABLE_KIB * KIB


@pytest.mark.parametrize(
    ("size", "c_min", "given"),
    [
        (24 * GIB, 2 * GIB, 22 * GIB),
        (2 * GIB, 2 * GIB, 0),
        (1 * GIB, 2 * GIB, 0),
        (10_000 * GIB, 0, USED),
    ],
)
def test_what_the_arc_gives_back_is_available(size: int, c_min: int, given: int, proc: Proc) -> None:
    proc.arc(size, c_min)
    assert used_and_available() == (USED - given, AVAILABLE + given)


@pytest.mark.parametrize("text", ["", "name type data\n", "size 4 much\nc_min 4 1\n", "\x00\x00"])
def test_odd_arcstats_cost_nothing_but_themselves(text: str, proc: Proc) -> None:
    proc.write("spl/kstat/zfs/arcstats", text)
    assert used_and_available() == (USED, AVAILABLE)


def test_the_arc_of_its_host_is_none_of_a_containers_memory(proc: Proc) -> None:
    proc.arc(24 * GIB, 2 * GIB)
    lxc = f"lxcfs {proc.folder}/meminfo fuse.lxcfs rw,nosuid 0 0\n"
    proc.write("self/mounts", f"rpool/data / zfs rw 0 0\n{lxc}")
    assert used_and_available() == (USED, AVAILABLE)
