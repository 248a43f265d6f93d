"""A folder of files: which of them are read, and what is wrong with one because of the others."""

from contextlib import closing
from pathlib import Path

import pytest

from machines_server.core.hosts import is_loopback
from machines_server.core.machine import Problem
from machines_server.inventory.folder import RegistryFiles
from tests.inventory.texts import GOOD, good, write


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".YAML", ".Yml", ".yAmL", ".YML"])
def test_the_suffix_may_be_in_any_case(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"box{suffix}").write_text(GOOD)
    with closing(RegistryFiles(tmp_path)) as files:
        (box,) = files.current(1.0)
        assert box.file == f"box{suffix}"
        (tmp_path / f"box{suffix}").write_text(good("box", more="site: x\n"))
        assert files.current(2.0).machines[0].declared["site"] == "x"


@pytest.mark.parametrize("name", ["x.txt", "x.YAML.BAK", "_X.YAML", ".x.Yml", "x.json", "yaml", "x.yaml "])
def test_other_names_are_passed_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{")
    with closing(RegistryFiles(tmp_path)) as files:
        registry = files.current(1.0)
    assert (registry.machines, registry.problems) == ((), ())


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.9.10",
        "::1",
        "0:0:0:0:0:0:0:1",
        "::ffff:127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
    ],
)
def test_a_host_that_is_each_readers_own_is_a_warning_beside_others(host: str, tmp_path: Path) -> None:
    assert is_loopback(host)
    (tmp_path / "here.yaml").write_text(good("here").replace("here.lan", f"'{host}'"))
    told: list[Problem] = []
    with closing(RegistryFiles(tmp_path, on_problem=told.append)) as files:
        assert files.current(1.0).problems == ()
        write(tmp_path, "away")
        registry = files.current(2.0)
        (problem,) = registry.problems
        assert (problem.file, problem.line, problem.column) == ("here.yaml", 5, 3)
        assert (problem.key, problem.severity) == ("network.hostname", "warning")
        assert f"{host} is a different host for each reader" in problem.message
        write(tmp_path, "third")
        assert files.current(3.0).problems == (problem,)
        assert [machine.name for machine in files.current(3.0)] == ["away", "here", "third"]
        for name in ("away", "third"):
            (tmp_path / f"{name}.yaml").unlink()
        assert files.current(4.0).problems == ()
    assert told == [problem]


@pytest.mark.parametrize(
    "host", ["128.0.0.1", "10.127.0.1", "::2", "localhost.lan", "my-localhost", "127.lan"]
)
def test_another_host_is_the_same_to_all(host: str) -> None:
    assert not is_loopback(host)


def test_machines_of_one_host_alone_may_all_be_its_own(tmp_path: Path) -> None:
    for name, host in (("one", "127.0.0.1"), ("two", "localhost"), ("three", "127.0.0.3")):
        (tmp_path / f"{name}.yaml").write_text(good(name).replace(f"{name}.lan", host))
    with closing(RegistryFiles(tmp_path)) as files:
        assert not [one for one in files.current(1.0).problems if "each reader" in one.message]


def test_a_file_whose_name_is_taken_is_told_that_alone(tmp_path: Path) -> None:
    write(tmp_path, "a")
    for file in ("b", "c"):
        (tmp_path / f"{file}.yaml").write_text(good("b").replace("b.lan", "127.0.0.1"))
    with closing(RegistryFiles(tmp_path)) as files:
        assert [(one.file, one.key) for one in files.current(1.0).problems] == [
            ("b.yaml", "network.hostname"),
            ("c.yaml", "name"),
        ]


def test_a_broken_file_is_told_once_even_if_no_file_is_good(tmp_path: Path) -> None:
    told: list[str] = []
    with closing(RegistryFiles(tmp_path, on_problem=lambda problem: told.append(problem.file))) as files:
        for name in ("one.yaml", "two.yaml"):
            (tmp_path / name).write_text("name: [")
            files.current(0.0)
    assert told == ["one.yaml", "two.yaml"]
