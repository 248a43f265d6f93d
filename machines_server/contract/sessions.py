"""Signing in with a browser: POST /api/login, POST /api/logout."""

from typing import Literal

from msgspec import Struct

from machines_server.contract.units import Moment


class LoginLink(Struct, frozen=True):
    """POST /api/login: what makes one session."""

    path: str
    """To be opened in a browser, below the address of this server."""
    expires_at: Moment


class LoggedOut(Struct, frozen=True):
    """POST /api/logout: all sessions have ended."""

    sessions: Literal["ended"] = "ended"
