"""Events as sentences, in the words of the page."""

from collections.abc import Mapping
from typing import Any

from machines_server.cli.fleet_text import STATUS_STYLES
from machines_server.cli.terminal.figures import duration, gib, with_local_times
from machines_server.cli.terminal.spans import Span


def event_sentence(event: Mapping[str, Any]) -> Span:
    """What happened to the machine of an event, without its name and the time."""
    kind = event["type"]
    if kind in STATUS_STYLES:
        reason = event.get("reason")
        words = f"is {kind}: {with_local_times(reason)}" if reason else f"is {kind}"
        return Span(words, STATUS_STYLES[kind])
    return Span(with_local_times(_words(event)))


def _words(event: Mapping[str, Any]) -> str:
    match event["type"]:
        case "model_loaded":
            return f"loaded {event['model']} ({gib(event['size_gb'])}, {event['processor']})"
        case "model_unloaded":
            return f"unloaded {event['model']} after {duration(event['resident_s'])}"
        case "machine_added":
            return f"was added in {event['file']}"
        case "machine_changed":
            return f"was changed in {event['file']}: {', '.join(event['keys'])}"
        case "machine_removed":
            return "was removed"
        case "host_rebooted":
            return f"rebooted after {duration(event['uptime_before_s'])} of uptime"
        case "host_changed":
            return f"was replaced by a different host ({event['reason']})"
        case "service_up":
            return f"service {event['service']} answers"
        case "service_down":
            return f"service {event['service']} does not answer ({event['reason']})"
        case other:
            return str(other).replace("_", " ")
