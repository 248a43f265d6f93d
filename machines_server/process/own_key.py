"""The key with which the poller signs its requests to sidecars."""

from machines_server.errors import SettingsError
from machines_server.poll.targets import Sign
from machines_server.settings import has_own_key


def own_signing() -> Sign | None:
    """How this server signs, from MACHINES_AGENT_ID and MACHINES_PRIVATE_KEY; None without them.

    Raises SettingsError if the key cannot be used. The signing code is imported only if there is a key.
    """
    if not has_own_key():
        return None
    from machines_client import ClientError
    from machines_client.signing import signing

    try:
        return signing(None, None, None)
    except (ValueError, ClientError) as error:
        raise SettingsError(str(error)) from None
