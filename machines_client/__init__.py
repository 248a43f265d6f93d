"""The client for agents: finds the machine for a job, and leases it while the job runs.

    with Client().lease("llama3.1:70b", min_free_vram_gb=4) as machine:
        requests.post(f"{machine.url}/api/generate", json={"model": machine.model, "prompt": "Hello"})

It needs requests, and AsyncClient needs httpx. `docs/client.md` of machines-server describes it.
"""

from typing import TYPE_CHECKING, Any

from machines_client.answers import (
    Candidate,
    GrantedLease,
    HeldLease,
    Leases,
    Machine,
    Pick,
    PromisedGpu,
)
from machines_client.client import Client
from machines_client.decoding import Answer
from machines_client.errors import (
    BadRequest,
    ClientError,
    Forbidden,
    LeaseLost,
    NoMachine,
    PassphraseNeeded,
    Rejection,
    ServerUnavailable,
    ServerUnreachable,
    TooMany,
    Unauthorized,
    UnknownMachine,
)
from machines_client.fleet_answers import (
    DeclaredMachine,
    Health,
    HostServices,
    Infrastructure,
    Machines,
    MachineState,
    Model,
    Models,
    Problem,
    System,
)
from machines_client.lease import Lease
from machines_client.messages import MAX_ANSWER_BYTES
from machines_client.past_answers import (
    Availability,
    Event,
    Events,
    FleetAvailability,
    Histories,
    History,
    MachineHistory,
    Point,
    Series,
)
from machines_client.sessions import LoggedOut, LoginLink
from machines_client.urls import DEFAULT_URL, server_url
from machines_client.version import VERSION

if TYPE_CHECKING:
    from machines_client.async_client import AsyncClient as AsyncClient
    from machines_client.async_lease import AsyncLease as AsyncLease

# Without what needs httpx, so that all of these can be imported where it is not installed.
__all__ = [
    "DEFAULT_URL",
    "MAX_ANSWER_BYTES",
    "VERSION",
    "Answer",
    "Availability",
    "BadRequest",
    "Candidate",
    "Client",
    "ClientError",
    "DeclaredMachine",
    "Event",
    "Events",
    "FleetAvailability",
    "Forbidden",
    "GrantedLease",
    "Health",
    "HeldLease",
    "Histories",
    "History",
    "HostServices",
    "Infrastructure",
    "Lease",
    "LeaseLost",
    "Leases",
    "LoggedOut",
    "LoginLink",
    "Machine",
    "MachineHistory",
    "MachineState",
    "Machines",
    "Model",
    "Models",
    "NoMachine",
    "PassphraseNeeded",
    "Pick",
    "Point",
    "Problem",
    "PromisedGpu",
    "Rejection",
    "Series",
    "ServerUnavailable",
    "ServerUnreachable",
    "System",
    "TooMany",
    "Unauthorized",
    "UnknownMachine",
    "pick_machine_for",
    "server_url",
]


def pick_machine_for(model: str, min_free_vram_gb: float = 0) -> tuple[str, str]:
    """The name and host of the machine to use; raises RuntimeError if there is none.

    >>> pick_machine_for("llama3.1:70b")
    ('workstation', '127.0.0.1')
    """
    pick = Client().pick(model, min_free_vram_gb=min_free_vram_gb)
    return pick.name, pick.hostname


def __getattr__(name: str) -> Any:
    """The parts that need httpx, which are imported when they are used."""
    if name not in ("AsyncClient", "AsyncLease"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from machines_client.async_client import AsyncClient
        from machines_client.async_lease import AsyncLease
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{name} needs {error.name}: pip install httpx, or from a checkout of machines-server"
            " pip install './machines_client[async]'"
        ) from error
    return {"AsyncClient": AsyncClient, "AsyncLease": AsyncLease}[name]
