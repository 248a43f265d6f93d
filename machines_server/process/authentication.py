"""Assembles the check of signatures; imported only where it is on, since its libraries are large."""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from machines_server.auth.authenticators import Authenticator, KeyFolder
from machines_server.auth.key_server import KeyServer
from machines_server.auth.observe_log import ObserveLog
from machines_server.auth.sessions import Sessions
from machines_server.core.text import printable
from machines_server.counts.counts import Counts
from machines_server.errors import StoreError
from machines_server.settings import Settings
from machines_server.store.api import Nonces
from machines_server.store.sqlite.nonces import NonceStore
from machines_server.store.sqlite.session_secret import SecretFile
from machines_server.web.authentication import Authentication
from machines_server.web.messages import Application
from request_signing.bearer_token import TokenFile
from request_signing.keys import PublicKeys

log = logging.getLogger(__name__)


def authentication(settings: Settings, counts: Counts) -> Callable[[Application], Application]:
    """Return a function that wraps an application in the check of signatures."""
    enforces = settings.auth_mode == "enforce"
    note = _log_refusal if enforces else ObserveLog(settings.auth_observe_log).add

    def on_refusal(method: str, path: str, reason: str, agent: str | None) -> None:
        counts.add("auth_refusals", reason)
        note(method, path, reason, agent)

    return partial(
        Authentication,
        authenticator=_authenticator(settings),
        agent_of_session=make_sessions(settings).agent,
        on_refusal=on_refusal,
        enforces=enforces,
        has_token=_token(settings),
    )


def make_sessions(settings: Settings) -> Sessions:
    """The sessions of people in a browser."""
    is_known: Callable[[str], bool] = bool
    if settings.auth_keys_dir:
        keys = PublicKeys(settings.auth_keys_dir)

        def is_known(agent: str) -> bool:
            return bool(keys.of(agent))

    if settings.is_cluster:
        from machines_server.process.cluster import cluster_of

        cluster = cluster_of(settings)
        return Sessions(cluster.session_secret(), cluster.nonces, is_known)
    return Sessions(SecretFile(settings.session_secret), partial(NonceStore, settings.nonces_db), is_known)


def _token(settings: Settings) -> Callable[[str], bool]:
    """A function that returns whether an Authorization header has the token of Prometheus."""
    if settings.metrics_token_file is None:
        return lambda _: False
    return TokenFile(
        settings.metrics_token_file, lambda fault: log.error("MACHINES_METRICS_TOKEN_FILE: %s", fault)
    ).is_sent_in


def _authenticator(settings: Settings) -> Authenticator:
    nonces = _nonces(settings)
    with suppress(StoreError):  # each request that needs it reports the fault
        nonces.since()  # starts recording now, since older signatures are refused
    if settings.auth_keys_dir:
        return KeyFolder(settings.auth_keys_dir, nonces)
    return KeyServer(settings.key_server_url or "", settings.auth_verify_timeout, nonces)


def _nonces(settings: Settings) -> Nonces:
    if settings.is_cluster:
        from machines_server.process.cluster import cluster_of

        return cluster_of(settings).nonces()
    return NonceStore(settings.nonces_db)


def _log_refusal(method: str, path: str, reason: str, agent: str | None) -> None:
    log.info("refused %s %s: %s (%s)", printable(method), printable(path), reason, printable(agent or "-"))
