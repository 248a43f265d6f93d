"""Sessions of people in a browser."""

import click

from machines_server.cli.command import command
from machines_server.cli.http import RETRIES, client_errors, client_of, server_option
from machines_server.cli.output import echo
from machines_server.cli.terminal.figures import clock
from machines_server.errors import BadRequestError


@command(
    "login",
    examples=[("machines-server login --server https://fleet.example.com", "Print a link that signs you in")],
)
@server_option
def login(server: str) -> None:
    """Print a link that signs a person in, to look at the fleet in a browser.

    The link works once, within five minutes; the session is read-only and lasts twelve hours. The request
    for it is signed with MACHINES_PRIVATE_KEY.
    """
    client = client_of(server, retries=RETRIES)
    with client_errors():
        link = client.login_link()
    echo(f"{client.url}{link.path}")
    echo(f"machines-server: open it once, before {clock(link.expires_at)}", err=True)


@command(
    "logout",
    examples=[("machines-server logout --all", "End the sessions of all browsers")],
)
@server_option
@click.option("--all", "is_all", is_flag=True, help="End the sessions of everybody.")
def logout(server: str, *, is_all: bool) -> None:
    """End all sessions of browsers, and all links that have not been used."""
    if not is_all:
        raise BadRequestError("add --all: sessions can only be ended all at once")
    with client_errors():
        client_of(server, retries=RETRIES).end_sessions()
    echo("All sessions have ended.")
