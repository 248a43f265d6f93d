"""What all commands have in common: their help, with examples."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

PROGRAM = "machines-server"
COMPLETE_VARIABLE = "_MACHINES_SERVER_COMPLETE"
"""Set by the completion scripts when they ask this program for completions."""
Example = tuple[str, str]
"""What to type, and what that does."""
_CLICK_MIN_WIDTH, _HELP_MIN_WIDTH = 50, 18


class NarrowHelpFormatter(click.HelpFormatter):
    """Writes help as click does, but also for terminals of less than 52 columns."""

    def __init__(
        self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None
    ) -> None:
        columns = shutil.get_terminal_size().columns - 2
        if width is None and columns < _CLICK_MIN_WIDTH:
            width = max(columns, _HELP_MIN_WIDTH)
        super().__init__(indent_increment, width, max_width)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of definitions, giving the terms more than half of the width."""
        super().write_dl(rows, min(col_max, self.width // 2 - col_spacing), col_spacing)


class HelpContext(click.Context):
    """The context of a command whose help fits narrow terminals."""

    formatter_class = NarrowHelpFormatter


class Command(click.Command):
    """A command whose help ends with examples."""

    context_class = HelpContext

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **named: Any) -> None:
        super().__init__(*args, **named)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click names them
        """Write the examples, each below what it does."""
        write_examples(self.examples, formatter)


class CommandGroup(click.Group):
    """A command with subcommands; its help ends with examples."""

    context_class = HelpContext

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
    """Write a section of examples; commands to type stay on one line."""
    if not examples:
        return
    with formatter.section("Examples"):
        for typed, effect in examples:
            formatter.write_text(f"{effect}:")
            formatter.write(f"{'':{formatter.current_indent + 2}}{typed}\n")


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is Ctrl-C, or was raised while that ended something, such as a transaction."""
    seen, waiting = set[int](), [error]
    while waiting:
        found = waiting.pop()
        if isinstance(found, KeyboardInterrupt):
            return True
        seen.add(id(found))
        waiting += [one for one in (found.__cause__, found.__context__) if one and id(one) not in seen]
    return False
