"""What requests to an endpoint need besides its URL; `credentials/` reads it from files."""

from typing import NamedTuple


class Access(NamedTuple):
    """A credential and the authorities to trust, for the requests to one endpoint; never shown."""

    authorization: str | None = None
    """The value of the Authorization header, in ASCII."""
    authorities: bytes | None = None
    """PEM certificates of the authorities to trust instead of the system's."""

    def __repr__(self) -> str:
        """Show neither: objects are printed in logs and in failing tests."""
        return "Access(...)"
