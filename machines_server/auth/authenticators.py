"""Two ways to check who has signed a request: a folder of public keys, or a key-server."""

import asyncio
import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import msgspec
import requests
from msgspec import Struct

from machines_server.failure_log import logger_of_failures
from machines_server.store.api import Nonces
from request_signing.claims import Claim
from request_signing.keys import PublicKeys
from request_signing.message import Refusal, signed_target
from request_signing.verifier import Verifier

KEY_SERVER_THREADS = 16
"""How many questions to a key-server are under way at a time, in each worker."""
_MAX_ANSWER_BYTES = 2**16

log = logger_of_failures(__name__)


class Authenticator(Protocol):
    """Checks claims in an event loop."""

    async def refusal(self, claim: Claim, method: str, target: str, body_sha256: str) -> Refusal | None:
        """Why a request is refused; None if the agent has signed it. Raises StoreError.

        `target` is path and query as in the request line.
        """


class KeyFolder:
    """Checks claims against the public keys in a folder."""

    def __init__(self, folder: Path, nonces: Nonces) -> None:
        self._nonces = nonces
        self._verifier = Verifier(PublicKeys(folder, lambda fault: log.error("%s", fault)), self._use)

    async def refusal(self, claim: Claim, method: str, target: str, body_sha256: str) -> Refusal | None:
        """Check here; takes some 0.1 ms."""
        return self._verifier.refusal(claim, method, target, body_sha256)

    def _use(self, nonce: bytes, at: float) -> Refusal | None:
        return _use_nonce(self._nonces, nonce, at)


class _Question(Struct, frozen=True):
    """The body of POST /api/verify."""

    agent_id: str
    timestamp: str
    nonce: str
    method: str
    path: str
    body_sha256: str
    signature: str


class _Answer(Struct, frozen=True):
    """What a key-server answers."""

    valid: bool
    agent_id: str | None = None
    reason: str | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class KeyServer:
    """Has a key-server check claims: POST /api/verify."""

    def __init__(self, url: str, timeout_s: float, nonces: Nonces) -> None:
        """`timeout_s` is the deadline of each question."""
        self._url, self._timeout_s, self._nonces = f"{url.rstrip('/')}/api/verify", timeout_s, nonces
        self._threads = ThreadPoolExecutor(KEY_SERVER_THREADS, "key-server")
        self._sessions = threading.local()

    async def refusal(self, claim: Claim, method: str, target: str, body_sha256: str) -> Refusal | None:
        """Ask the key-server in a thread, then record the number here as well."""
        question = _Question(
            agent_id=claim.agent,
            timestamp=claim.timestamp,
            nonce=claim.nonce,
            method=method,
            path=signed_target(target, claim.version),
            body_sha256=body_sha256,
            signature=b64encode(claim.signature).decode(),
        )
        asked = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, question)
        try:
            refusal = await asyncio.wait_for(asked, self._timeout_s)
        except TimeoutError:
            log.error("the key-server did not answer within %g s", self._timeout_s)
            return Refusal.KEY_SERVER_UNREACHABLE
        return refusal or _use_nonce(self._nonces, bytes.fromhex(claim.nonce), claim.at)

    def _ask(self, question: _Question) -> Refusal | None:
        try:
            status, answer = self._post(msgspec.json.encode(question))
        except (requests.RequestException, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("the key-server cannot be asked: %s", type(error).__name__)
            return Refusal.KEY_SERVER_UNREACHABLE
        if status == 200 and answer.valid and answer.agent_id in (None, question.agent_id):
            return None
        if status == 400:
            return Refusal.MALFORMED
        if status in (200, 401):
            try:
                return Refusal(answer.reason or "")
            except ValueError:
                return Refusal.BAD_SIGNATURE
        log.error("the key-server answered with status %d", status)
        return Refusal.KEY_SERVER_UNREACHABLE

    def _post(self, question: bytes) -> tuple[int, _Answer]:
        session: requests.Session | None = getattr(self._sessions, "session", None)
        if session is None:
            session = self._sessions.session = requests.Session()
            session.trust_env = False  # a proxy of the environment is not for this
        with session.post(
            self._url,
            question,
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            timeout=self._timeout_s,
            allow_redirects=False,
            stream=True,
        ) as response:
            body = response.raw.read(_MAX_ANSWER_BYTES, decode_content=True)
            is_verdict = response.status_code in (200, 401)
            return response.status_code, _decode(body) if is_verdict else _Answer(valid=False)


def _use_nonce(nonces: Nonces, nonce: bytes, at: float) -> Refusal | None:
    if at < nonces.since():
        return Refusal.TIMESTAMP_OUT_OF_WINDOW
    return None if nonces.use(nonce) else Refusal.NONCE_REPLAYED
