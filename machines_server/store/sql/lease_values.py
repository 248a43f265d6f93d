"""The values of a new lease, by the names of its columns."""

import secrets
from typing import Any

import orjson

from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.leases import Warmth
from machines_server.store.values import LeaseRequest


def lease_values(request: LeaseRequest, candidate: Candidate) -> dict[str, Any]:
    """The columns of a lease on a candidate except its times; `key` is that of the request."""
    machine, load = candidate.state.machine, candidate.load
    return {
        "id": secrets.token_hex(12),  # a dash in front would be an option on a command line
        "machine": machine.name,
        "hostname": machine.hostname,
        "port": machine.port,
        "url": machine.url,
        "credential": machine.credential,
        "model": candidate.model,
        "digest": candidate.digest,
        "warmth": candidate.warmth,
        "shares": orjson.dumps([list(share) for share in candidate.shares]).decode(),
        "holder": request.holder,
        "address": request.address,
        "load_s": load.load_s if load else None,
        "size_bytes": load.needs_bytes if load else None,
        "is_learned": candidate.warmth is not Warmth.COLD,
        "is_exclusive": request.is_exclusive,
        "key": request.key,
        "request_digest": None if request.key is None else request.digest,
        "agent": request.agent,
    }
