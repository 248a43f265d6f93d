"""The command that prints events: events."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from machines_server.cli.command import command
from machines_server.cli.completion_of_names import complete_machine
from machines_server.cli.event_words import event_sentence
from machines_server.cli.http import client_errors, client_of, server_option, unexpected_answers
from machines_server.cli.moments import HELP, Moment
from machines_server.cli.output import as_json, echo, echo_json, echo_lines, output_width
from machines_server.cli.terminal.figures import moment
from machines_server.cli.terminal.spans import Line, Span, cut, cut_line, display_width, wrap
from machines_server.client import Client, ServerUnavailable, ServerUnreachable, TooMany
from machines_server.core.text import printable

_WAIT_S = 25.0
_RETRY_S = 1.0
_PAGE = 1000
_EVENT_INDENT = "  "
_NARROWEST_SENTENCE = 24


@command(
    "events",
    examples=[
        ("machines-server events --from yesterday --type offline", "See what failed since yesterday"),
        ("machines-server events --machine workstation --follow", "Watch one machine"),
        ("machines-server events --from 2026-11-28 --to '2026-11-28 03:00'", "Look at one night"),
    ],
)
@click.option(
    "--machine",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_machine,
    help="Only events of this machine; repeatable.",
)
@click.option(
    "--type", "type_", multiple=True, metavar="TYPE", help="Only this type, such as offline; repeatable."
)
@click.option("--from", "from_", type=Moment(), default="-24h", show_default=True, help=f"Start: {HELP}")
@click.option("--to", type=Moment(), help="End, in the same forms; by default now.")
@click.option("--limit", default=100, show_default=True, help="Print at most this many, the newest.")
@click.option("--follow", "-f", is_flag=True, help="Keep printing new events until Ctrl-C.")
@server_option
@as_json
@unexpected_answers()
def events(server: str, *, as_json: bool, follow: bool, **options: Any) -> None:
    """Print the events of the fleet, oldest first, in local time.

    With --json each line is one event. With --follow, events continue without a gap after the server
    restarts.
    """
    if follow and options["to"]:
        raise click.UsageError("--follow and --to cannot be combined.")
    question = {name.replace("type_", "type"): value or None for name, value in options.items()}
    client, printer = client_of(server), _Printer(as_json=as_json)
    with client_errors():
        page = client.events(**question)
        printer.show(one.body for one in reversed(page.events))
        if not page.events and not follow and not as_json:
            echo("No events match.", err=True)
        if page.truncated and not as_json:
            echo(f"These are the newest {len(page.events)}; --limit shows more.", err=True)
        if follow:
            after = max((one.id for one in page.events), default=0)
            for event in _following(client, {**question, "limit": _PAGE}, after):
                printer.show([event])


def _following(client: Client, question: dict[str, Any], after: int) -> Iterator[Mapping[str, Any]]:
    """The events after an id, without end; reports on standard error when the server is away."""
    is_away = False
    while True:
        sys.stdout.flush()
        try:
            page = client.events(**question, after=after, wait_s=_WAIT_S)
        except (ServerUnreachable, ServerUnavailable, TooMany) as error:
            if not is_away:
                echo(f"machines-server: {error}; waiting for it", err=True)
            is_away = True
            time.sleep(error.retry_after_s or _RETRY_S)
            continue
        if is_away:
            echo("machines-server: the server answers again", err=True)
            is_away = False
        if (page.body.get("newest", after) or 0) < after:  # an older server does not report it
            echo("machines-server: the server has a new database; continuing with its first event", err=True)
            after = 0
        for event in sorted(page.events, key=lambda one: one.id):
            after = max(after, event.id)
            yield event.body


class _Printer:
    """Prints events, those for people below a heading for each day."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json, self._day, self._name_width = as_json, "", 0

    def show(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Print events; the names of machines are padded to the longest so far."""
        if self._as_json:
            for event in events:
                echo_json(event)
            return
        events = list(events)
        widths = [display_width(printable(event["machine"])) for event in events]
        self._name_width = max([self._name_width, *widths])
        for event in events:
            at = moment(event["at"])
            if (day := at.strftime("%A %Y-%m-%d")) != self._day:
                echo_lines(*([[]] if self._day else []), [Span(day, "heading")])
                self._day = day
            echo_lines(*self._lines(f"{at:%H:%M:%S}", event))

    def _lines(self, clock: str, event: Mapping[str, Any]) -> Sequence[Line]:
        sentence, width = event_sentence(event), output_width()
        name_width = self._name_width if width is None else min(self._name_width, width // 3)
        name = cut(printable(event["machine"]), name_width)
        left = len(_EVENT_INDENT) + len(clock) + len(_EVENT_INDENT) + name_width + 1
        head = [Span(f"{_EVENT_INDENT}{clock}{_EVENT_INDENT}", "quiet"), Span(name)]
        gap = Span(" " * (name_width - display_width(name) + 1))
        if width is None:
            return [[*head, gap, sentence]]
        if width - left < _NARROWEST_SENTENCE:
            indent = len(_EVENT_INDENT) * 2
            parts = wrap(printable(sentence.text), width - indent)
            return [
                cut_line(head, width),
                *([Span(" " * indent), Span(part, sentence.style)] for part in parts),
            ]
        first, *rest = wrap(printable(sentence.text), width - left)
        others = ([Span(" " * left), Span(part, sentence.style)] for part in rest)
        return [[*head, gap, Span(first, sentence.style)], *others]
