"""Requests of commands to a running server."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import quote

import click
from click.core import ParameterSource

from machines_server.cli.output import echo
from machines_server.client import (
    DEFAULT_URL,
    BadRequest,
    Client,
    ClientError,
    PassphraseNeeded,
    ServerUnreachable,
    UnknownMachine,
    server_url,
)
from machines_server.core.machine import Problem
from machines_server.errors import BadRequestError, ServerError

REQUEST_TIMEOUT_S = 30.0
RETRIES = 1
"""Fewer than the client's own, so that a person at a shell soon learns that nothing answers."""
_LIST_PATH = "GET /api/machines"
"""What the server's messages advise, which is a command here."""


def valid_url(context: click.Context, parameter: click.Parameter, url: str | None) -> str | None:
    """A callback of options that take the URL of a server."""
    try:
        return url and server_url(url)
    except ValueError as error:
        if context.get_parameter_source(parameter.name or "") is ParameterSource.ENVIRONMENT:
            raise click.UsageError(f"MACHINES_URL cannot be used: {error}") from None
        raise click.BadParameter(str(error)) from None


server_option = click.option(
    "--server",
    envvar="MACHINES_URL",
    default=DEFAULT_URL,
    show_default=True,
    metavar="URL",
    callback=valid_url,
    help="URL of the server, or host:port; also set by MACHINES_URL.",
)


def machine_path(name: str) -> str:
    """The path of a machine, even if the shell passed its name as bytes that are not UTF-8."""
    return f"/api/machines/{quote(name, safe='', errors='surrogateescape')}"


def client_of(server: str | None, **options: Any) -> Client:
    """A client, which signs if the environment has a key; asks a person at a terminal for its passphrase.

    Raises BadRequestError or ServerError.
    """
    with client_errors():
        try:
            return Client(server, **options)
        except ValueError as error:
            raise BadRequestError(str(error)) from None
        except PassphraseNeeded:
            if not sys.stdin.isatty():
                raise
            return Client(server, **options, passphrase=_passphrase())


@cache
def _passphrase() -> str:
    """The passphrase that the user types; asked for once."""
    typed: str = click.prompt("Passphrase of the private key", hide_input=True, err=True)
    return typed


def ask(server: str, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
    """A server's answer as JSON; raises ServerError with the server's message."""
    with client_errors():
        return client_of(server, timeout_s=REQUEST_TIMEOUT_S, retries=RETRIES).ask(path, parameters)


def ask_text(server: str, path: str, parameters: Mapping[str, Any]) -> str:
    """A server's answer as text; raises ServerError with the server's message."""
    with client_errors():
        return client_of(server, timeout_s=REQUEST_TIMEOUT_S, retries=RETRIES).text(path, parameters)


@contextmanager
def client_errors() -> Iterator[None]:
    """Turn the client's errors into ServerError, with advice for a person at a shell."""
    try:
        yield
    except ServerUnreachable as error:
        raise ServerError(f"{error}; start it, or name another with --server or MACHINES_URL") from None
    except BadRequest as error:
        raise BadRequestError(str(error)) from None
    except UnknownMachine as error:
        raise ServerError(str(error).replace(_LIST_PATH, "`machines-server list`")) from None
    except UnicodeEncodeError:
        raise BadRequestError("an argument is not valid UTF-8") from None
    except ClientError as error:
        raise ServerError(str(error)) from None


@contextmanager
def unexpected_answers() -> Iterator[None]:
    """Raise ServerError if an answer does not have the expected form."""
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        kind = type(error).__name__
        raise ServerError(f"the answer cannot be read ({kind}): is this a machines-server?") from error


def echo_problems(problems: Iterable[Mapping[str, Any]]) -> None:
    """Print what is wrong with machine files, as answers list it, on standard error."""
    for problem in problems:
        echo(f"{problem['severity']}: {Problem(**problem)}", err=True)


def listed(
    server: str, what: str, parameters: Mapping[str, Any], *, key: str | None = None
) -> list[dict[str, Any]]:
    """A list from the server; empty, with the reason on standard error, if it cannot be fetched.

    It is the value of `key` in the answer of /api/`what`, by default that of `what`.
    """
    key = key or what
    try:
        found: list[dict[str, Any]] = ask(server, f"/api/{what}", parameters)[key]
    except ServerError as error:
        echo(f"machines-server: {key} unknown: {error}", err=True)
        return []
    return found
