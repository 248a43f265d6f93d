"""Checks signatures against the public keys in a folder."""

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from request_signing.claims import Claim
from request_signing.keys import PublicKeys
from request_signing.message import Refusal, signed_bytes, signed_target


class Verifier:
    """Checks claims: the signature, and that its nonce is new."""

    def __init__(self, keys: PublicKeys, use_nonce: Callable[[bytes, float], Refusal | None]) -> None:
        """`use_nonce` records a nonce; it also gets the time of the signature, in epoch seconds."""
        self._keys, self._use_nonce = keys, use_nonce
        # Checked for unknown agents, so that timing does not reveal which agents exist.
        self._nobody = (keys.make_key(Ed25519PrivateKey.generate().public_key().public_bytes_raw()),)

    def refusal(self, claim: Claim, method: str, target: str, body_sha256: str) -> Refusal | None:
        """Why a request is refused; None if the agent has signed it and the nonce is new.

        `target` is path and query as in the request line.
        """
        keys = self._keys.of(claim.agent)
        signed = signed_bytes(
            method, signed_target(target, claim.version), claim.timestamp, claim.nonce, body_sha256
        )
        is_signed = False
        for key in keys or self._nobody:
            try:
                key.verify(claim.signature, signed)
            except InvalidSignature:
                continue
            is_signed = True
            break
        if not keys:
            return Refusal.UNKNOWN_AGENT
        if not is_signed:
            return Refusal.BAD_SIGNATURE
        # Only the signer may use up a nonce.
        return self._use_nonce(bytes.fromhex(claim.nonce), claim.at)
