"""The client for agents, which is also the distribution machines-client of this checkout."""

from typing import TYPE_CHECKING

from machines_client import *  # noqa: F403  the same names
from machines_client import __all__ as __all__
from machines_client import __getattr__ as __getattr__

if TYPE_CHECKING:
    from machines_client import AsyncClient as AsyncClient
    from machines_client import AsyncLease as AsyncLease
