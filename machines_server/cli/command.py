"""What all commands have in common: their help, with examples."""

from collections.abc import Callable, Sequence
from typing import Any

import click

PROGRAM = "machines-server"
COMPLETE_VARIABLE = "_MACHINES_SERVER_COMPLETE"
"""Set by the completion scripts when they ask this program for completions."""
Example = tuple[str, str]
"""What to type, and what that does."""


class Command(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **named: Any) -> None:
        super().__init__(*args, **named)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click names them
        """Write the examples, each below what it does."""
        write_examples(self.examples, formatter)


class CommandGroup(click.Group):
    """A command with commands of its own; its help ends with examples."""

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **named: Any) -> None:
        super().__init__(*args, **named)
        self.examples = examples

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands with whole summaries, which click would cut."""
        commands = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        rows = [(one.name or "", summary(one)) for one in commands if one and not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click names them
        """Write the examples, each below what it does."""
        write_examples(self.examples, formatter)


def command(name: str, *, examples: Sequence[Example]) -> Callable[[Callable[..., Any]], click.Command]:
    """A decorator that makes a function a command."""
    return click.command(name, cls=Command, examples=examples)


def summary(one: click.Command) -> str:
    """The first sentence of a command's help."""
    return (one.help or "").split("\n\n")[0].replace("\n", " ")


def write_examples(examples: Sequence[Example], formatter: click.HelpFormatter) -> None:
    """Write a section of examples; what is to be typed stays on one line."""
    if not examples:
        return
    with formatter.section("Examples"):
        for typed, effect in examples:
            formatter.write_text(f"{effect}:")
            formatter.write(f"{'':{formatter.current_indent + 2}}{typed}\n")
