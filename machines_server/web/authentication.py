"""The layer that checks who has signed a request, around ready answers and everything else."""

import time
from collections.abc import Callable

from machines_server.auth.authenticators import Authenticator
from machines_server.contract.encoding import encode
from machines_server.contract.errors import UnauthorizedBody
from machines_server.counts.columns import BAD_TOKEN
from machines_server.errors import StoreError
from machines_server.web.bodies import RETRY_AFTER_1_S, Bodies, replaying
from machines_server.web.guards import SAFE_METHODS
from machines_server.web.login import sign_in_page
from machines_server.web.messages import (
    JSON_TYPE,
    NO_SNIFF,
    PAGE_HEADERS,
    SESSION_COOKIE,
    Application,
    Receive,
    Scope,
    Send,
    answer,
    answer_error,
    header,
)
from request_signing.claims import Claim, read_claim
from request_signing.message import AGENT, SIGNATURE_AGE_S, SIGNATURE_AHEAD_S, Refusal, body_hash

OPEN_PATHS = frozenset({b"/health", b"/health/ready", b"/metrics", b"/openapi.json", b"/docs"})
"""What anybody may GET: only METRICS_TARGET tells of the fleet, and only to those who may read that."""
METRICS_TARGET = b"/metrics"
PATHS_OF_TOKEN = frozenset({METRICS_TARGET, b"/api/prometheus/sd"})
"""What the bearer token of MACHINES_METRICS_TOKEN_FILE opens."""
_OPEN_BELOW, _LOGIN = b"/static/", b"/login"
_AGENT_HEADER = AGENT.lower().encode()
_COOKIE = SESSION_COOKIE.encode()
_EMPTY_HASH = body_hash(b"")
_CHALLENGE = (b"www-authenticate", b"X-Signature")
_REFUSALS = {
    Refusal.MISSING_HEADERS: "This server answers signed requests only: set MACHINES_AGENT_ID and"
    " MACHINES_PRIVATE_KEY for its client and command line, or see docs/signatures.md.",
    Refusal.MALFORMED: "The headers of the signature are malformed.",
    Refusal.TIMESTAMP_OUT_OF_WINDOW: f"The signature is more than {SIGNATURE_AGE_S:g} s old, or its time is"
    f" more than {SIGNATURE_AHEAD_S:g} s ahead of this server's clock.",
    Refusal.UNKNOWN_AGENT: "This server has no public key for that agent.",
    Refusal.BAD_SIGNATURE: "The signature does not match the agent's key and this request.",
    Refusal.NONCE_REPLAYED: "The X-Nonce of this request has already been used.",
    Refusal.KEY_SERVER_UNREACHABLE: "The key-server cannot be reached to check this signature.",
}

_READS_ONLY = "A browser session is read-only; to change anything, use the command line, which signs."

OnRefusal = Callable[[str, str, str, str | None], None]
"""Called with method, path, reason (a Refusal or BAD_TOKEN), and the agent that claims to have sent it."""


class Authentication:
    """Passes on what is signed, or open, with the agent in `scope`; refuses or reports everything else."""

    def __init__(
        self,
        application: Application,
        authenticator: Authenticator,
        on_refusal: OnRefusal,
        *,
        enforces: bool,
        agent_of_session: Callable[[str], str | None],
        has_token: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Unless it `enforces`, requests that would be refused are passed on as well.

        `agent_of_session` returns the agent of a session, by its cookie, or None if it is none. `has_token`
        returns whether an Authorization header has the token that opens PATHS_OF_TOKEN.
        """
        self._application, self._authenticator = application, authenticator
        self._on_refusal, self._enforces = on_refusal, enforces
        self._agent_of_session, self._has_token = agent_of_session, has_token
        self._bodies = Bodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, whose body is read once."""
        if self._is_with_token(scope):
            scope["is_reader"] = True
            await self._application(scope, receive, send)
            return
        if _is_open(scope):
            if self._enforces and scope["raw_path"] == METRICS_TARGET:
                scope["is_reader"] = await self._is_reader(scope)
            await self._application(scope, receive, send)
            return
        is_in_session = self._is_in_session(scope)
        if is_in_session and scope["method"] in SAFE_METHODS:
            await self._application(scope, receive, send)
            return
        if not _has_body(scope):
            await self._check(scope, b"", receive, send, is_in_session=is_in_session)
            return
        # Even if it is refused: a client that is still sending would not read why.
        body = await self._bodies.receive(scope, receive, send)
        if body is None:
            return
        try:
            await self._check(scope, body, replaying(body, receive), send, is_in_session=is_in_session)
        finally:
            self._bodies.release(body)

    async def _check(
        self, scope: Scope, body: bytes, receive: Receive, send: Send, *, is_in_session: bool
    ) -> None:
        claim = read_claim(scope["headers"], time.time())
        if isinstance(claim, Refusal):
            if is_in_session and self._enforces:
                await answer_error(scope, send, 403, "forbidden", _READS_ONLY)
            else:
                await self._refuse(scope, receive, send, claim, _claimed_agent(scope))
            return
        try:
            refusal = await self._refusal(scope, claim, body)
        except StoreError as error:
            if self._enforces:
                message = f"Signatures cannot be checked: {error}."
                await answer_error(scope, send, 503, "store_unavailable", message, [RETRY_AFTER_1_S])
                return
            refusal = None
        if refusal is None:
            scope["agent"] = claim.agent
            await self._application(scope, receive, send)
        else:
            await self._refuse(scope, receive, send, refusal, claim.agent)

    def _is_with_token(self, scope: Scope) -> bool:
        """Return whether the request has Prometheus' token."""
        if scope["raw_path"] not in PATHS_OF_TOKEN or scope["method"] not in ("GET", "HEAD"):
            return False
        sent = header(scope, b"authorization")
        return sent is not None and self._has_token(sent.decode("latin-1"))

    async def _is_reader(self, scope: Scope) -> bool:
        """Return whether the sender of a request for an open path may read the fleet as well."""
        if self._is_in_session(scope):
            return True
        claim = read_claim(scope["headers"], time.time())
        agent, refusal = None, None
        if isinstance(claim, Claim):
            agent = claim.agent
            try:
                refusal = await self._refusal(scope, claim, b"")
            except StoreError:
                return False
            if refusal is None:
                return True
        elif claim is not Refusal.MISSING_HEADERS:
            refusal = claim
        elif header(scope, b"authorization") is None:
            return False  # nobody claims anything
        self._on_refusal("GET", METRICS_TARGET.decode(), refusal or BAD_TOKEN, agent)
        return False

    def _is_in_session(self, scope: Scope) -> bool:
        """Return whether a signed-in browser sends it; for other sites' requests it sends no cookie."""
        sent = header(scope, b"cookie")
        if sent is None or _COOKIE not in sent:
            return False
        parts = (part.strip().partition(b"=") for part in sent.split(b";"))
        return any(
            self._agent_of_session(value.decode("latin-1")) for name, _, value in parts if name == _COOKIE
        )

    async def _refusal(self, scope: Scope, claim: Claim, body: bytes) -> Refusal | None:
        target: bytes = scope["root_path"].encode("latin-1") + scope["raw_path"]
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        return await self._authenticator.refusal(
            claim, scope["method"], target.decode("latin-1"), body_hash(body) if body else _EMPTY_HASH
        )

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, refusal: Refusal, agent: str | None
    ) -> None:
        self._on_refusal(scope["method"], scope["raw_path"].decode("latin-1"), refusal, agent)
        if not self._enforces:
            await self._application(scope, receive, send)
            return
        if refusal is Refusal.MISSING_HEADERS and _is_visit(scope):
            page = sign_in_page(scope["root_path"])
            headers = [(name.lower().encode(), value.encode()) for name, value in PAGE_HEADERS.items()]
            headers += [
                (b"content-type", b"text/html; charset=utf-8"),
                (b"cache-control", b"no-store"),
                NO_SNIFF,
            ]
            headers += [(b"content-length", b"%d" % len(page)), _CHALLENGE]
            await answer(scope, send, 401, headers, page)
            return
        is_unknown = refusal is Refusal.KEY_SERVER_UNREACHABLE
        content = encode(UnauthorizedBody(error="unauthorized", reason=refusal, message=_REFUSALS[refusal]))
        headers = [
            (b"content-type", JSON_TYPE.encode()),
            (b"content-length", b"%d" % len(content)),
            NO_SNIFF,
            RETRY_AFTER_1_S if is_unknown else _CHALLENGE,
        ]
        await answer(scope, send, 503 if is_unknown else 401, headers, content)


def _claimed_agent(scope: Scope) -> str | None:
    """The agent that claims to have sent a request which is not signed as it should be."""
    found = header(scope, _AGENT_HEADER)
    return found.decode("latin-1") if found else None


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _is_open(scope: Scope) -> bool:
    if scope["method"] == "OPTIONS":
        return True
    path = scope["raw_path"]
    if path == _LOGIN:
        return scope["method"] in ("GET", "HEAD", "POST")
    return scope["method"] in ("GET", "HEAD") and (path in OPEN_PATHS or path.startswith(_OPEN_BELOW))


def _is_visit(scope: Scope) -> bool:
    """Return whether a person opens a page."""
    return scope["method"] in ("GET", "HEAD") and b"text/html" in (header(scope, b"accept") or b"")
