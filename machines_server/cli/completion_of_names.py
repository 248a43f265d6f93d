"""Completion of names that a running server knows; silent if it does not answer soon."""

from collections.abc import Callable, Iterable
from typing import Any

import click

from machines_server.client import Client, ClientError

_TIMEOUT_S = 1.0
Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def complete_machine_values(values: Callable[[dict[str, Any]], Iterable[str]]) -> Completer:
    """Complete to the values that a function finds in the machines' files."""
    return _completer(
        "/api/machines", lambda body: (v for machine in body["machines"] for v in values(machine))
    )


def _completer(path: str, names: Callable[[dict[str, Any]], Iterable[str]]) -> Completer:
    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        """The known names that begin with the typed text."""
        try:
            body = Client(context.params.get("server"), timeout_s=_TIMEOUT_S, retries=0).ask(path)
            found = sorted({name for name in names(body) if name.startswith(incomplete)})
        except (ClientError, LookupError, TypeError, ValueError, AttributeError):
            return []
        return [name for name in found if name.isprintable()]

    return complete


complete_machine = complete_machine_values(lambda machine: [machine["name"]])
complete_model = _completer("/api/models", lambda body: (one["model"] for one in body["models"]))
complete_lease = _completer("/api/leases", lambda body: (one["lease"] for one in body["leases"]))
