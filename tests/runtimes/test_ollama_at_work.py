"""A model is in use for the request that loaded it while the moment at which it leaves slides."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from machines_server.core.machine import Endpoint
from machines_server.core.sample import LoadedModel
from machines_server.poll.cycle import AnswerReader
from machines_server.runtimes.ollama import Ollama
from tests.bodies import ollama_body
from tests.core.machines import a_machine

BEGAN = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


class Polls:
    """One Ollama, polled again and again."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ollama = Ollama(lambda: self.now)

    def read(self, at_s: float, body: bytes) -> tuple[LoadedModel, ...]:
        """The models of an answer that came then."""
        self.now = at_s
        return self.ollama.read(body).state.models or ()

    def at(self, at_s: float, leaves_s: float | None, *names: str, **changes: Any) -> list[str]:
        """Which models are in use by a poll then, when all models say that they leave at that second."""
        leaves = "2318-12-04T10:11:12.1Z" if leaves_s is None else self.moment(leaves_s)
        body = ollama_body(*(names or ("phi3:mini",)), expires_at=leaves, **changes)
        return [one.model for one in self.read(at_s, body) if one.is_working]

    def moment(self, after_s: float) -> str:
        return (BEGAN + timedelta(seconds=after_s)).astimezone(timezone(timedelta(hours=-7))).isoformat()


def test_a_moment_that_slides_with_the_clock_means_at_work_until_it_stands() -> None:
    polls = Polls()
    assert polls.at(0.0, 300.0) == []  # one answer alone tells nothing
    assert polls.at(5.0, 305.03) == ["phi3:mini"]
    assert polls.at(10.2, 310.19) == ["phi3:mini"]
    assert polls.at(25.2, 325.2) == ["phi3:mini"]  # two polls got no answer
    assert polls.at(30.2, 327.0) == []  # it has ended meanwhile
    assert polls.at(35.2, 327.0) == []


def test_a_request_that_ended_between_two_polls_is_not_at_work() -> None:
    polls = Polls()
    polls.at(0.0, 300.0)
    assert polls.at(5.0, 302.5) == []
    assert polls.at(10.0, 309.0) == []
    assert polls.at(15.0, 309.0) == []


@pytest.mark.parametrize("interval_s", [0.25, 0.5, 1.0, 60.0])
def test_whatever_the_interval_is(interval_s: float) -> None:
    polls = Polls()
    polls.at(0.0, 300.0)
    assert polls.at(interval_s, 300.0 + interval_s) == ["phi3:mini"]
    assert polls.at(2 * interval_s, 300.0 + interval_s) == []
    assert polls.at(3 * interval_s, 300.0 + 1.5 * interval_s) == []


def test_each_model_is_judged_by_itself() -> None:
    polls = Polls()
    polls.at(0.0, 300.0, "a", "b")
    fixed, sliding = (
        json.loads(ollama_body("x", expires_at=polls.moment(at)))["models"][0] for at in (300, 305)
    )
    body = json.dumps({"models": [fixed | {"model": "a"}, sliding | {"model": "B:latest"}]}).encode()
    found = polls.read(5.0, body)
    assert [(one.model, one.is_working) for one in found] == [("B:latest", True), ("a", False)]


def test_answers_are_compared_only_with_those_of_the_same_url() -> None:
    answers, other_machine = AnswerReader(), a_machine("other", hostname="other", port=1)
    one, other = Endpoint("ollama", "one", 1), Endpoint("ollama", "other", 1)
    body = ollama_body("m")
    first = answers.read(one, answers.url(one), body)
    assert answers.read(one, answers.url(one), body) is first
    assert answers.read(other, answers.url(other), body) is not first
    answers.forget_removed([other_machine])
    assert answers.read(one, answers.url(one), body) is not first


def test_a_model_that_stays_for_ever_or_says_nothing_is_not_at_work() -> None:
    polls = Polls()
    for at in (0.0, 5.0, 10.0):
        assert polls.at(at, None) == []
    for body in (b'{"models": null}', b'{"models": [{"name": "m"}]}', b'{"models": []}'):
        assert not any(one.is_working for one in polls.read(15.0, body))


def test_machines_of_one_url_hear_the_same_and_who_stands_is_not_at_work() -> None:
    ollama, moment = Ollama(), Polls().moment
    bodies = [ollama_body("m", expires_at=moment(at)) for at in (300, 300)]
    first = ollama.read(bodies[0])
    assert ollama.read(bodies[0]) is first
    assert ollama.read(bodies[1]) is first
