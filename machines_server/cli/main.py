"""The command line; exit status 0 is success, 1 failure, 2 wrong usage or settings."""

import importlib
import logging.config
import os
import sys
from contextlib import suppress
from typing import Any

import click

from machines_server.cli.command import COMPLETE_VARIABLE, CommandGroup, is_interrupt
from machines_server.cli.output import echo, replace_unencodable_characters
from machines_server.core.text import printable
from machines_server.errors import BadRequestError, MachinesError, SettingsError, described
from machines_server.process.logs import log_config, log_uncaught

_MODULES = {
    "backup": "database",
    "completion": "completion",
    "copy": "copying",
    "doctor": "checks",
    "events": "events",
    "history": "history",
    "keygen": "keys",
    "leases": "leases",
    "list": "list",
    "login": "login",
    "logout": "login",
    "mcp": "mcp",
    "migrate": "database",
    "models": "models",
    "pick": "pick",
    "poll": "serve",
    "ps": "ps",
    "serve": "serve",
    "show": "show",
    "sign": "keys",
    "top": "top",
    "validate": "checks",
}
"""The module of each command, imported when the command is used: all of them together take half a second."""

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""


class _Commands(CommandGroup):
    """The commands; turns our exceptions into one line on standard error and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click names the parameters
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        # For an unknown name click suggests a similar one of `commands`.
        for name in [cmd_name] if cmd_name in _MODULES else _MODULES:
            module = importlib.import_module(f"machines_server.cli.{_MODULES[name]}")
            found = [one for one in vars(module).values() if isinstance(one, click.Command)]
            self.commands.update({one.name: one for one in found if one.name in _MODULES})
        return super().get_command(ctx, cmd_name)

    def main(self, *args: Any, **named: Any) -> Any:
        replace_unencodable_characters()
        if COMPLETE_VARIABLE in os.environ:
            from machines_server.cli.completion import register  # only shells need it

            register()
        try:
            return super().main(*args, **named)
        except OSError as error:
            with suppress(OSError):  # standard error may be unwritable as well
                echo(f"machines-server: {error.strerror or error}", err=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # flushing the buffer at exit would fail again
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            lines = error.format_message().expandtabs(2).split("\n")
            message = "\n".join(map(printable, lines))
            raise click.UsageError(message, error.ctx) from None
        except (SettingsError, BadRequestError) as error:
            echo(*f"machines-server: {error}".split("\n"), err=True)
            ctx.exit(2)
        except MachinesError as error:
            if is_interrupt(error):
                ctx.exit(INTERRUPTED)
            echo(f"machines-server: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:  # click exits silently
            raise
        except OSError as error:
            echo(f"machines-server: {described(error)}", err=True)
            ctx.exit(1)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=[
        ("machines-server list", "See which machines are up and how much VRAM is free"),
        ("machines-server ps", "See which models are in memory, and where"),
        ("machines-server pick llama3.1:70b", "Get the URL of the best Ollama for a model"),
    ],
)
@click.version_option(package_name="machines-server")
def main() -> None:
    """Find the machine that has a model in memory, and see how much VRAM is free on it.

    `machines-server COMMAND --help` describes a command. Those that ask a server take its URL from --server
    or MACHINES_URL. Exit status: 0 success, 1 a negative answer, 2 wrong usage or settings.
    """
    logging.config.dictConfig(log_config("warning", "text"))
    log_uncaught()
