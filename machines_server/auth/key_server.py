"""Has a key-server check who has signed a request."""

import asyncio
import ssl
import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pycurl
from msgspec import Struct

from machines_server.auth.authenticators import use_nonce_of
from machines_server.failure_log import logger_of_failures
from machines_server.store.api import Nonces
from request_signing.claims import Claim
from request_signing.message import Refusal, signed_target

KEY_SERVER_THREADS = 16
"""How many questions to a key-server are under way at a time, in each worker."""
_MAX_ANSWER_BYTES = 2**16

log = logger_of_failures(__name__)


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
        self._lines = threading.local()

    async def refusal(self, claim: Claim, method: str, target: str, body_sha256: str) -> Refusal | None:
        """Ask the key-server in a thread, then record the nonce here as well."""
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
        return refusal or await use_nonce_of(claim, self._nonces)

    def _ask(self, question: _Question) -> Refusal | None:
        try:
            status, answer = self._post(msgspec.json.encode(question))
        except pycurl.error as error:
            log.error("the key-server cannot be reached: error %d of libcurl", error.args[0])
            return Refusal.KEY_SERVER_UNREACHABLE
        except (msgspec.MsgspecError, UnicodeDecodeError):
            log.error("the key-server's answer cannot be read")
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
        line: _Line | None = getattr(self._lines, "line", None)
        if line is None:
            line = self._lines.line = _Line(self._url, self._timeout_s)
        status, body = line.post(question)
        return status, _decode(body) if status in (200, 401) else _Answer(valid=False)


class _Line:
    """A connection to the key-server, for one thread; it has a deadline for whole questions."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._body = bytearray()
        self._curl = curl = pycurl.Curl()
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.PROXY, "")  # a proxy of the environment is not for this
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(1000 * timeout_s)))
        curl.setopt(
            pycurl.HTTPHEADER, ["Content-Type: application/json", "Accept: application/json", "Expect:"]
        )
        curl.setopt(pycurl.WRITEFUNCTION, self._receive)
        authorities = ssl.get_default_verify_paths()  # libcurl may look for the system's elsewhere
        if authorities.cafile is not None:
            curl.setopt(pycurl.CAINFO, authorities.cafile)
        if authorities.capath is not None:
            curl.setopt(pycurl.CAPATH, authorities.capath)

    def post(self, question: bytes) -> tuple[int, bytes]:
        """The status and body of the answer; raises pycurl.error."""
        self._body.clear()
        self._curl.setopt(pycurl.POSTFIELDS, question)
        self._curl.perform()
        return self._curl.getinfo(pycurl.RESPONSE_CODE), bytes(self._body)

    def _receive(self, data: bytes) -> int:
        """Returns a number other than that of the bytes to end the transfer."""
        self._body += data
        return len(data) if len(self._body) <= _MAX_ANSWER_BYTES else -1
