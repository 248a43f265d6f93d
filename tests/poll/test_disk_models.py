"""When an Ollama is asked what is on its disk."""

import time

import pytest

from machines_server.core.machine import Machine
from machines_server.core.model_names import model_key
from machines_server.core.sample import Library, LoadedModel, PollResult, State, UnchangedLibrary
from machines_server.core.shards import shard_of
from machines_server.poll.disk_models import (
    FULL_LIST_INTERVAL_S,
    LIST_INTERVAL_S,
    MAX_WANTED_AT_ONCE,
    WANTED_AGAIN_S,
    LibraryPoller,
)
from tests.bodies import http, sha, tags_body
from tests.core.machines import a_machine, answer
from tests.fakes import FakeEndpoint, FakeFleet

TAGS = "/api/tags"
PHI = http(tags_body(("phi3:mini", sha("phi"), 2)))
BOTH = http(tags_body(("phi3:mini", sha("phi"), 2), ("mine:latest", sha("phi"), 2)))


class Watch:
    """A poller with a clock that only we turn, and the machines that it asks."""

    def __init__(self, fakes: FakeFleet) -> None:
        self.now, self._fakes = 1000.0, fakes
        self.poller = LibraryPoller(lambda: self.now)
        self.machines: list[Machine] = []

    def add(self, tags: bytes = PHI) -> FakeEndpoint:
        """A machine that answers."""
        ollama = self._fakes.ollama()
        ollama.answers[TAGS] = tags
        self.machines.append(a_machine(f"m{len(self.machines):02}", port=ollama.port, has_sidecar=False))
        self.hear(len(self.machines) - 1, ())
        return ollama

    def hear(self, number: int, models: tuple[LoadedModel, ...] | None) -> None:
        """A poll of that machine has ended; without an answer it was refused."""
        state = State.UNREACHABLE if models is None else State.OK
        name, endpoint = self.machines[number].name, self.machines[number].endpoints["ollama"]
        self.poller.note(PollResult(name, endpoint, state, 0.0, 0.0, answer=answer(models)))

    def look(
        self, after_s: float = 0.0, *wanted: str, epochs: dict[int, int] | None = None
    ) -> list[Library | UnchangedLibrary]:
        """What comes when it is looked who is due, so much later."""
        self.now += after_s
        came = self.poller.poll(self.machines, 2.0, {model_key(model) for model in wanted}, epochs)
        return [one for one in came if one is not None]


@pytest.fixture
def watch(fakes: FakeFleet) -> Watch:
    return Watch(fakes)


def test_disks_are_asked_each_minute_and_the_same_answer_is_told_in_short(watch: Watch) -> None:
    ollama = watch.add()
    (whole,) = watch.look()
    assert isinstance(whole, Library)
    assert abs(whole.at - time.time()) < 5
    assert watch.look(LIST_INTERVAL_S * 0.7) == []
    (same,) = watch.look(LIST_INTERVAL_S * 0.6)
    assert (type(same), same.machine, same.url) == (UnchangedLibrary, "m00", ollama.url(""))
    ollama.answers[TAGS] = BOTH
    (changed,) = watch.look(LIST_INTERVAL_S * 1.3)
    assert isinstance(changed, Library)
    assert [model.model for model in changed.models] == ["mine:latest", "phi3:mini"]
    assert isinstance(watch.look(FULL_LIST_INTERVAL_S + 1)[0], Library)  # for whoever has lost it


def test_what_was_told_of_a_shard_that_has_come_back_is_told_again_at_once(watch: Watch) -> None:
    watch.add()
    watch.add()
    of_first, of_second = shard_of("m00"), shard_of("m01")
    assert of_first != of_second
    epochs = {of_first: 1, of_second: 1}
    assert len(watch.look(epochs=epochs)) == 2
    assert watch.look(5, epochs=epochs) == []
    (again,) = watch.look(5, epochs={of_first: 3, of_second: 1})
    assert (type(again), again.machine) == (Library, "m00")
    assert watch.look(5, epochs={of_first: 3, of_second: 1}) == []


def test_an_ollama_that_comes_back_is_asked_at_once(watch: Watch) -> None:
    ollama = watch.add()
    watch.look()
    assert watch.look(5) == []
    watch.hear(0, None)
    assert watch.look(5) == []
    watch.hear(0, ())
    assert len(watch.look(0)) == 1
    assert watch.look(5) == []
    watch.hear(0, None)
    watch.hear(0, ())  # between two looks
    assert len(watch.look(0)) == 1
    assert ollama.asked(TAGS) == 3


def test_a_model_that_a_question_names_is_asked_for_where_it_is_unknown(watch: Watch) -> None:
    ollama, knows = watch.add(), watch.add(BOTH)
    watch.look()
    ollama.answers[TAGS] = BOTH
    assert watch.look(1, "mine") == []  # it was asked a moment ago
    assert watch.poller.has_wanted()
    (library,) = watch.look(WANTED_AGAIN_S - 1)
    assert library.machine == "m00"
    assert watch.look(1) == []
    assert not watch.poller.has_wanted()
    assert knows.asked(TAGS) == 1
    assert watch.look(WANTED_AGAIN_S, "mine:latest") == []  # it is known now
    assert len(watch.look(0, "never:1")) == 2
    assert watch.look(1, "never:1") == []
    assert len(watch.look(WANTED_AGAIN_S, "never:1")) == 2
    watch.hear(0, None)
    assert len(watch.look(WANTED_AGAIN_S, "never:1")) == 1  # who is down is not asked


def test_of_many_machines_a_few_at_a_time_are_asked_for_it_until_all_have_been(watch: Watch) -> None:
    endpoints = [watch.add() for _ in range(MAX_WANTED_AT_ONCE + 5)]
    watch.look()
    assert len(watch.look(WANTED_AGAIN_S, "mine", "yours")) == MAX_WANTED_AT_ONCE
    assert watch.poller.has_wanted()
    assert len(watch.look(1)) == 5
    assert watch.look(1) == []
    assert not watch.poller.has_wanted()
    assert {endpoint.asked(TAGS) for endpoint in endpoints} == {2}
