"""What the commands share that ask a running server."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import click

from machines_server.client import DEFAULT_URL, BadRequest, Client, ClientError, ServerUnreachable
from machines_server.errors import RefusedError, ServerError

REQUEST_TIMEOUT_S = 30.0


def _checked_url(_context: click.Context, _parameter: click.Parameter, url: str) -> str:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise click.BadParameter(f"{url} is no URL; give one such as http://127.0.0.1:3038")
    return url


as_json = click.option("--json", "as_json", is_flag=True, help="For machines.")
server_url = click.option(
    "--server",
    envvar="MACHINES_URL",
    default=DEFAULT_URL,
    show_default=True,
    callback=_checked_url,
    help="A running server.",
)


def ask(server: str, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
    """The JSON that a server answers; raises ServerError with what it says when it says no."""
    with said():
        return Client(server, timeout_s=REQUEST_TIMEOUT_S).ask("GET", path, params=parameters)


def ask_text(server: str, path: str, parameters: Mapping[str, Any]) -> str:
    """The text that a server answers; raises ServerError."""
    with said():
        return Client(server, timeout_s=REQUEST_TIMEOUT_S).fetch("GET", path, params=parameters).text


@contextmanager
def said() -> Iterator[None]:
    """The client's errors as ServerError, with what a person at a shell can do."""
    try:
        yield
    except ServerUnreachable as error:
        raise ServerError(f"{error}; start it, or name another with --server or MACHINES_URL") from None
    except BadRequest as error:
        raise RefusedError(str(error)) from None
    except ClientError as error:
        raise ServerError(str(error)) from None


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines whose columns stand under each other."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
