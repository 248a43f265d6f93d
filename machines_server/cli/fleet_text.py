"""What several commands say about machines and models."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from machines_server.cli.terminal.figures import UNKNOWN, gib_of_bytes, number, until
from machines_server.cli.terminal.spans import Span, Style
from machines_server.cli.terminal.table import Column, Row

STATUS_STYLES: Mapping[str, Style] = {
    "online": "good",
    "degraded": "warning",
    "offline": "bad",
    "unknown": "quiet",
}
_DIGEST_CHARACTERS = 12
_OLLAMA = "ollama: "
MODEL_COLUMNS = (
    Column("NAME", "cut"),
    Column("ID"),
    Column("SIZE", right=True),
    Column("PROCESSOR"),
    Column("CONTEXT", right=True),
    Column("UNTIL", "cut"),
)
"""The columns of `ollama ps`."""


def status_span(status: str) -> Span:
    """The status of a machine in its colour."""
    return Span(status, STATUS_STYLES.get(status, "quiet"))


def reason_and_hint(machine: Mapping[str, Any]) -> tuple[str, str]:
    """Why a machine has its status, and the hint in its Ollama's message, which often repeats the reason."""
    reason, message = machine["status_reason"] or "", machine["ollama"]["message"] or ""
    has_sidecar = (machine.get("network") or {}).get("sidecar") is not False
    if machine["status"] == "offline" and machine["ollama"]["state"] == "busy" and has_sidecar:
        return reason, ""  # the whole host is silent, so its Ollama is not just loading a model
    known = reason.rpartition(_OLLAMA)[2]
    if message and reason and message.startswith(known):
        return reason, message.removeprefix(known).removeprefix(":").strip()
    return "; ".join(filter(None, [reason, message and f"{_OLLAMA}{message}"])), ""


def names_text(names: Iterable[object]) -> str:
    """Names separated by commas; `-` if there are none."""
    return ", ".join(map(str, names)) or UNKNOWN


def gpus(machine: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """The readable GPUs of a machine that is online; none of another, since old figures would mislead."""
    if machine["status"] != "online":
        return ()
    found: Sequence[dict[str, Any]] = machine["telemetry"].get("gpu", ())
    return found


def leased_vram(leases: Iterable[dict[str, Any]]) -> Mapping[str, float]:
    """The GiB that leases reserve on each GPU, by its UUID."""
    leased = Counter[str]()
    for lease in leases:
        for gpu in lease["gpus"]:
            leased[gpu["uuid"]] += gpu["vram_gb"]
    return leased


def free_vram(machine: dict[str, Any], leased: Mapping[str, float]) -> list[float | None]:
    """The GiB of each GPU that are neither used nor leased; None where unknown."""
    return [
        None if gpu["vram_free_gb"] is None else max(0.0, gpu["vram_free_gb"] - leased.get(gpu["uuid"], 0))
        for gpu in gpus(machine)
    ]


def free_vram_text(machine: dict[str, Any], leased: Mapping[str, float]) -> str:
    """The free VRAM of each GPU after leases, such as `20 + 12 GiB`."""
    free = [number(one) for one in free_vram(machine, leased)]
    return f"{' + '.join(free)} GiB" if free else UNKNOWN


def tags(machine: dict[str, Any]) -> list[str]:
    """The tags in a machine's file, which may have one or a list."""
    declared = machine.get("tags")
    if declared is None:
        return []
    return [str(one) for one in (declared if isinstance(declared, list) else [declared])]


def model_row(model: dict[str, Any], now: datetime) -> Row:
    """The cells of MODEL_COLUMNS for a model in memory."""
    digest = (model["digest"] or UNKNOWN).removeprefix("sha256:")[:_DIGEST_CHARACTERS]
    return (
        Span(model["name"]),
        Span(digest, "quiet"),
        Span(gib_of_bytes(model["size_bytes"])),
        Span(model["processor"]),
        Span(UNKNOWN if model["context_length"] is None else str(model["context_length"])),
        Span(until(model["expires_at"], now)),
    )


def knows_models(machine: dict[str, Any]) -> bool:
    """Return whether it is known which models the Ollama of a machine has in memory."""
    return machine["ollama"]["state"] in ("ok", "busy", "disabled")
