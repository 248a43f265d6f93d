"""Answers read as the poller reads them."""

from machines_server.core.sample import HostSample, LoadedModel, StoredModel
from machines_server.runtimes.fields import Oddities
from machines_server.runtimes.ollama import Ollama
from machines_server.runtimes.sidecar import Sidecar


def read_sidecar(body: bytes) -> tuple[HostSample, Oddities]:
    """What a sidecar answered, and what was odd in it."""
    state, odd = Sidecar().read(body)
    assert state.host is not None
    assert state.models is None
    return state.host, odd


def read_ollama(body: bytes) -> tuple[tuple[LoadedModel, ...], Oddities]:
    """What an Ollama answered to /api/ps, and what was odd in it."""
    state, odd = Ollama().read(body)
    assert state.models is not None
    assert state.host is None
    return state.models, odd


def read_tags(body: bytes) -> tuple[tuple[StoredModel, ...], Oddities]:
    """What an Ollama answered to /api/tags, and what was odd in it."""
    models, odd = Ollama().read_library(body)
    return models, odd


def parse_sidecar(body: bytes) -> HostSample:
    """The same without what was odd."""
    return read_sidecar(body)[0]


def parse_ollama(body: bytes) -> tuple[LoadedModel, ...]:
    """The same without what was odd."""
    return read_ollama(body)[0]


def parse_tags(body: bytes) -> tuple[StoredModel, ...]:
    """The same without what was odd."""
    return read_tags(body)[0]
