"""How the latest poll of an endpoint is read from a row of the table `latest`."""

import msgspec

from machines_server.core.sample import HostSample, LoadedModel, RuntimeState, State
from machines_server.core.snapshot import Latest
from machines_server.core.times import checked_time

decode_host = msgspec.json.Decoder(HostSample).decode
_models = msgspec.json.Decoder(tuple[LoadedModel, ...]).decode
_STATE_BY_NAME = {str(state): state for state in State}


def latest_of(
    host: str | None,
    models: str | None,
    url: str,
    state: str,
    reason: str | None,
    polled_at_ms: int,
    answered_at_ms: int | None,
    clock_ahead_s: float | None,
    up_since_ms: int | None,
    hint: str | None,
) -> Latest:
    """The poll in a row; raises ValueError, LookupError or TypeError for a damaged one."""
    answer = None
    if host is not None or models is not None:
        answer = RuntimeState(
            None if host is None else decode_host(host), None if models is None else _models(models)
        )
    answered_at = None if answered_at_ms is None else checked_time(answered_at_ms / 1000)
    up_since = None if up_since_ms is None else checked_time(up_since_ms / 1000)
    polled_at = checked_time(polled_at_ms / 1000)
    return Latest(
        url, _STATE_BY_NAME[state], reason, polled_at, answered_at, answer, clock_ahead_s, up_since, hint
    )
