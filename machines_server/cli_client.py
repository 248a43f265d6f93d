"""What the commands share that ask a running server."""

from collections.abc import Mapping
from typing import Any

import click
import requests

from machines_server.errors import ServerError

REQUEST_TIMEOUT_S = 30.0

as_json = click.option("--json", "as_json", is_flag=True, help="For machines.")
server_url = click.option(
    "--server",
    envvar="MACHINES_URL",
    default="http://127.0.0.1:3038",
    show_default=True,
    help="A running server.",
)


def ask(server: str, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
    """The JSON that a server answers; raises ServerError with what it says when it says no."""
    return _get(server, path, parameters).json()


def ask_text(server: str, path: str, parameters: Mapping[str, Any]) -> str:
    """The text that a server answers; raises ServerError."""
    return _get(server, path, parameters).text


def _get(server: str, path: str, parameters: Mapping[str, Any] | None) -> requests.Response:
    if not server.startswith(("http://", "https://")):
        raise click.BadParameter(f"{server} is no URL; give one such as http://127.0.0.1:3038")
    try:
        response = requests.get(server.rstrip("/") + path, parameters, timeout=REQUEST_TIMEOUT_S)
        body = response.json() if response.headers.get("Content-Type") != "text/csv; charset=utf-8" else {}
    except requests.JSONDecodeError:
        raise ServerError(f"{server} is not a machines-server: it does not answer in JSON") from None
    except requests.RequestException as error:
        reason = "it is not there" if isinstance(error, requests.ConnectionError) else error
        hint = "start it, or name another with --server or MACHINES_URL"
        raise ServerError(f"{server} cannot be asked: {reason}; {hint}") from None
    if not response.ok:
        raise ServerError(str(body.get("message", f"HTTP status {response.status_code}")))
    return response
