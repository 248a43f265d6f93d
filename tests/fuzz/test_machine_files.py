"""Machine files of any bytes next to good ones: nothing fails, no neighbour is lost, none takes long."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from machines_server.contract.encoding import encode
from machines_server.contract.machines import declared_keys
from machines_server.core.text import printable
from machines_server.inventory.folder import RegistryFiles
from machines_server.inventory.machine_file import parse_declared, parse_machine
from machines_server.inventory.yaml.write import as_yaml
from tests.fuzz.conftest import Fuzz
from tests.inventory.corpus import ACCEPTED, REFUSED
from tests.inventory.texts import GOOD, write
from tests.inventory.timing import MAX_CPU_S, parse_cpu_s

_PIECES = (
    "- |: |\n|  |[|]|{|}|, |&a |*a |!!set |!!int |!!omap |!!binary |!!float |!!timestamp |!x |"
    "<<: |? |>|'|\"|\\ud800|0x|.nan|-|=|~|true|2026-13-01|1e999|\t|\r|%YAML 1.1\n|%TAG ! x\n|---|...|"
    "#|@|`|\xe9|\ufeff|\u2028|_|!<x>|!%ff |a|k: v\n|{a: b}, |[[|]]|x: &a [|\n  - "
)
PIECES = _PIECES.split("|")
CORPUS = [
    text.encode() if isinstance(text, str) else text
    for text in (*ACCEPTED.values(), *(text for text, _ in REFUSED.values()))
]
ODD = st.binary(max_size=8) | st.sampled_from(
    [
        *map(str.encode, PIECES),
        b"\x1b[2J",
        b"\xc2\x9b",
        b"\xe2\x80\xae",
        b"\xff",
        b"\0",
        b"1e999",
        b"61e9540",
        b"0042",
    ]
)
SPLICES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 20), ODD), min_size=1, max_size=6)
NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: not {0, ord("/")} & set(name))
TARGETS = ("/proc/kmsg", "/dev/zero", "/proc/self/mem", "..", ".", "alpha.yaml", "../x.yaml", "x" * 300, "")


@contextmanager
def errors_logged() -> Iterator[list[str]]:
    """What is logged with a traceback meanwhile: what nobody foresaw."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]  # the short way
    handler.addFilter(lambda record: record.exc_info is not None)
    logging.getLogger("machines_server").addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger("machines_server").removeHandler(handler)


def _spliced(content: bytes, splices: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, new in splices:
        at %= len(content) + 1
        content = content[:at] + new + content[at + length :]
    return content


def test_any_bytes_are_a_machine_that_all_can_read_or_problems_that_all_can_print(fuzz: Fuzz) -> None:
    @given(st.sampled_from([GOOD.encode(), *CORPUS]), SPLICES)
    def machine_file(content: bytes, splices: list[tuple[int, int, bytes]]) -> None:
        content = _spliced(content, splices)
        with errors_logged() as unforeseen:
            parsed = parse_machine(content, "box.yaml")
            assert parsed.machine or parsed.problems
            for problem in parsed.problems:
                assert printable(str(problem)) == str(problem)
            if parsed.machine is not None:
                declared = parsed.machine.declared
                answer = encode(declared_keys(parsed.machine))
                assert _same(json.loads(answer), {**declared, "_config_file": "box.yaml"})
                assert printable(answer.decode()) == answer.decode()
                assert _same(YAML(typ="safe", pure=True).load(as_yaml(declared)), declared)
                assert parse_declared(json.dumps(declared), "box.yaml").machine is not None
        assert unforeseen == []

    fuzz(machine_file)


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)


def test_any_name_and_any_link_cost_no_neighbour(fuzz: Fuzz) -> None:
    @given(st.lists(st.tuples(NAMES, st.sampled_from(TARGETS) | st.binary(max_size=60)), max_size=5))
    def folder_of_files(entries: list[tuple[bytes, str | bytes]]) -> None:
        with TemporaryDirectory() as name, errors_logged() as unforeseen:
            folder = Path(name) / "machines"
            folder.mkdir()
            write(folder, "alpha")
            for stem, content in entries:
                path = os.path.join(os.fsencode(folder), stem + b".yaml")  # noqa: PTH118  Path takes no bytes
                if os.path.lexists(path):
                    continue
                if isinstance(content, str):
                    os.symlink(content or "\n", path)  # noqa: PTH211  Path takes no bytes
                else:
                    Path(os.fsdecode(path)).write_bytes(content)
            with closing(RegistryFiles(folder)) as files:
                registry = files.current(1.0)
                assert registry.get("alpha") is not None
                assert files.current(2.0) is registry
            for problem in registry.problems:
                assert printable(str(problem)) == str(problem)
            assert unforeseen == []

    fuzz(folder_of_files)


def test_no_file_takes_long_to_read(fuzz: Fuzz) -> None:
    @given(
        st.integers(0, len(GOOD)),
        st.lists(st.tuples(st.sampled_from(PIECES), st.integers(1, 3000)), max_size=6),
        st.integers(1, 30),
    )
    def long_file(at: int, pieces: list[tuple[str, int]], again: int) -> None:
        text = GOOD[:at] + "".join(piece * times for piece, times in pieces) * again + GOOD[at:]
        assert parse_cpu_s(text.encode()) < MAX_CPU_S

    fuzz(long_file)
