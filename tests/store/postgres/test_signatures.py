"""Signed requests to several servers: each counts once, and nobody else waits while that is checked."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from machines_server.auth.authenticators import KeyFolder
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.nonces import PostgresNonces
from request_signing.claims import Claim, read_claim
from request_signing.message import Refusal, body_hash
from tests.auth.agents import Agents
from tests.postgres import Postgres

BODY_HASH = body_hash(b"")


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(Database(url)) as opened:
        yield opened


@pytest.fixture
def agents(tmp_path: Path) -> Agents:
    return Agents(tmp_path)


@pytest.fixture
def keys(database: Database, agents: Agents) -> KeyFolder:
    nonces = PostgresNonces(database)
    nonces.since()
    return KeyFolder(agents.public, nonces)


def claim_of(agents: Agents) -> Claim:
    headers = agents.add("agent-1").sign("GET", "/api/route")
    claim = read_claim(
        [(name.lower().encode(), value.encode()) for name, value in headers.items()], time.time()
    )
    assert isinstance(claim, Claim)
    return claim


async def refusal(keys: KeyFolder, claim: Claim, target: str = "/api/route") -> Refusal | None:
    return await keys.refusal(claim, "GET", target, BODY_HASH)


def test_a_signature_counts_once_and_only_if_it_is_good(keys: KeyFolder, agents: Agents) -> None:
    claim = claim_of(agents)
    assert asyncio.run(refusal(keys, claim, "/api/other")) is Refusal.BAD_SIGNATURE
    assert asyncio.run(refusal(keys, claim)) is None
    assert asyncio.run(refusal(keys, claim)) is Refusal.NONCE_REPLAYED


def test_while_one_waits_for_the_database_others_are_answered(
    url: str, keys: KeyFolder, agents: Agents
) -> None:
    async def ask(blocking: psycopg.Connection[tuple[object, ...]]) -> Refusal | None:
        asked = asyncio.create_task(refusal(keys, claim_of(agents)))
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert not asked.done()
        blocking.rollback()
        return await asked

    with psycopg.connect(url) as blocking:
        blocking.execute("LOCK TABLE nonce_0, nonce_1")
        assert asyncio.run(ask(blocking)) is None
