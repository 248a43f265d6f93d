"""Help: it is everywhere, its examples are right, and the pages made from it are up to date."""

import re
import shlex
import subprocess

import click
import pytest

from machines_server.cli.main import main
from tests.commands import Commands
from tests.running import command
from tests.terminal import in_terminal
from tests.tools import tool
from tools import commands_page, man
from tools.command_docs import command_docs

DOCS = command_docs()


def test_every_command_has_help_with_examples() -> None:
    with Commands() as commands:
        for number, doc in enumerate(DOCS):
            done = commands.run(*doc.name.split()[1:], ("-h", "--help")[number % 2])
            text = done.stdout.decode()
            assert (done.returncode, done.stderr) == (0, b""), doc.name
            for typed, effect in doc.examples:
                assert typed in text
                assert effect.split()[0] in text
            assert "Examples:" in text, doc.name


def test_the_list_of_commands_is_not_cut() -> None:
    text = " ".join(in_terminal({}, "--help", columns=60).plain.split())
    assert "..." not in text.split("Commands:")[1]
    assert all(doc.summary in text for doc in DOCS if len(doc.name.split()) == 2)


def arguments(typed: str) -> list[str]:
    """The words after `machines-server` up to what the shell takes for itself."""
    found = re.search(r"machines-server ([^|>)]*)", typed)
    return shlex.split(found[1]) if found else []


@pytest.mark.parametrize("typed", [typed for doc in DOCS for typed, _ in doc.examples])
def test_every_example_is_a_command_that_there_is(typed: str) -> None:
    words = arguments(typed)
    assert words, typed
    assert isinstance(main, click.Group)
    context = click.Context(main, info_name="machines-server")
    group: click.Command = main
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        found = group.get_command(context, name)
        if found is None:
            break
        group = found
    group.make_context("example", words, parent=context)


def test_the_page_of_commands_is_up_to_date() -> None:
    assert commands_page.PATH.read_text() == commands_page.text(), "run python -m tools.commands_page"


def test_the_manual_pages_are_up_to_date() -> None:
    pages = {path.name: path.read_text() for path in man.FOLDER.glob("*.1")}
    assert pages == man.pages(), "run python -m tools.man"


def test_a_manual_page_can_be_formatted() -> None:
    groff = tool("groff")
    for path in sorted(man.FOLDER.glob("*.1")):
        words = [groff, "-ww", "-man", "-Tutf8", str(path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, ""), path
        assert "EXAMPLES" in re.sub(".\b", "", done.stdout)


def test_what_is_nearly_right_is_suggested() -> None:
    for words, suggestion in (
        (["shwo"], "Did you mean 'show'?"),
        (["list", "--sotr", "name"], "--sort"),
        (["leases", "relase", "x"], "Did you mean 'release'?"),
    ):
        done = command(*words)
        assert done.returncode == 2
        assert suggestion in done.stderr
