"""The key with which the poller signs its requests to sidecars."""

from machines_client import ClientError
from machines_client.signing import Sign, signing
from machines_server.errors import SettingsError


def own_signing() -> Sign | None:
    """How this server signs, as MACHINES_AGENT_ID and MACHINES_PRIVATE_KEY say; None without them.

    Raises SettingsError if the key cannot be used.
    """
    try:
        return signing(None, None, None)
    except (ValueError, ClientError) as error:
        raise SettingsError(str(error)) from None
