"""Links with which people sign in, and the end of their sessions; both requests must be signed."""

from dataclasses import dataclass, field

from machines_client.decoding import Answer
from machines_client.flows import Flow, Session, answer
from machines_client.messages import Request


@dataclass(frozen=True, kw_only=True)
class LoginLink(Answer):
    """Signs a person in, once, until `expires_at`; `path` follows the URL of the server."""

    path: str = field(repr=False)
    expires_at: str


@dataclass(frozen=True, kw_only=True)
class LoggedOut(Answer):
    """All sessions have ended."""

    sessions: str


def login_link(session: Session) -> Flow[LoginLink]:
    """A link that signs a person in, to look at the fleet in a browser."""
    return answer(session, Request("POST", "/api/login", body={}), LoginLink)


def end_sessions(session: Session) -> Flow[LoggedOut]:
    """End the sessions of all browsers, and all links that have not been used."""
    return answer(session, Request("POST", "/api/logout", body={}), LoggedOut)
