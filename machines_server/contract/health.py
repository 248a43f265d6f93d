"""The server's own health: GET /health and GET /health/ready."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from machines_server.contract.units import Moment, Seconds


class Poller(Struct, frozen=True):
    """Whether the machines are polled."""

    state: Literal["running", "stalled", "stopped"]
    """`stalled`: no cycle has finished for two intervals and a time-out; `stopped`: no process polls."""
    last_cycle_at: Moment | None
    """When the latest cycle finished; null before the first."""
    interval_s: Seconds
    """The time between the starts of two cycles."""
    cycle_s: Seconds | None
    """How long the latest finished cycle took; null before the first."""
    message: str | None
    """The poller's faults; null if there are none."""


class Store(Struct, frozen=True):
    """Whether the database can be read and written."""

    state: Literal["ok", "error"]
    message: str | None
    """Why not; null if all is well."""


class Health(Struct, frozen=True):
    """GET /health, and GET /health/ready while answers are up to date."""

    version: str
    poller: Poller
    store: Store
    warnings: Sequence[str]
    """What is unsafe about how the server is run, or fails now although other answers do without it."""
    status: Literal["ok"] = "ok"
    service: Literal["machines-server"] = "machines-server"


class NotReady(Struct, frozen=True):
    """GET /health/ready with status 503, while answers are not up to date."""

    message: str
    """Why, in a sentence for people."""
    version: str
    poller: Poller
    store: Store
    warnings: Sequence[str]
    """What is unsafe about how the server is run, or fails now although other answers do without it."""
    error: Literal["not_ready"] = "not_ready"
    status: Literal["not_ready"] = "not_ready"
    service: Literal["machines-server"] = "machines-server"
