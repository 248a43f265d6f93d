"""The help of each command, for the pages made from it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from machines_server.cli.command import PROGRAM, Command, CommandGroup, Example
from machines_server.cli.main import main


@dataclass(frozen=True, slots=True)
class OptionDoc:
    """An option as its help shows it: `--step TEXT`, and what it means."""

    names: str
    meaning: str


@dataclass(frozen=True, slots=True)
class CommandDoc:
    """A command with its full name, such as `machines-server leases release`."""

    name: str
    usage: str
    summary: str
    paragraphs: Sequence[str]
    options: Sequence[OptionDoc]
    examples: Sequence[Example]


def command_docs() -> list[CommandDoc]:
    """The program itself, then every command by name."""
    context = click.Context(main, info_name=PROGRAM, **main.context_settings)
    return list(_docs(main, context))


def _docs(command: click.Command, context: click.Context) -> Iterator[CommandDoc]:
    yield _doc(command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _docs(inner, click.Context(inner, parent=context, info_name=name))


def _doc(command: click.Command, context: click.Context) -> CommandDoc:
    first, *others = re.split(r"\n\n", command.help or "")
    records = (one.get_help_record(context) for one in command.get_params(context))
    examples = command.examples if isinstance(command, Command | CommandGroup) else ()
    return CommandDoc(
        name=context.command_path,
        usage=" ".join([context.command_path, *command.collect_usage_pieces(context)]),
        summary=_line(first),
        paragraphs=[_line(one) for one in others],
        options=[OptionDoc(names, _line(meaning)) for names, meaning in filter(None, records) if meaning],
        examples=examples,
    )


def _line(text: str) -> str:
    return " ".join(text.split())
