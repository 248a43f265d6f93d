"""When a running poller asks what is on a disk."""

from machines_server.core.sample import Cycle, Library, PollResult, State, StoredModel
from tests.bodies import http, ollama_body, sha, tags_body
from tests.fakes import FakeFleet, wait_until
from tests.poll.world import World

TAGS = "/api/tags"
LLAMA = http(tags_body(("llama3.1:70b", sha("llama"), 40)))


def test_what_is_on_disk_is_asked_once_of_those_that_answer(world: World, fakes: FakeFleet) -> None:
    there, dead = fakes.ollama("phi3:mini"), fakes.listen(http(b"", "500 No"))
    there.answers[TAGS] = http(tags_body(("phi3:mini", sha("phi"), 2), ("llama3.1:70b", sha("llama"), 40)))
    world.declare("there", there)
    world.declare("dead", dead)
    with world.polled(1, 0.9):  # so long that no answer is late: it would be a reason to ask again
        (library,) = wait_until(lambda: world.came(Library))
        wait_until(lambda: len(world.came(Cycle)) >= 5)
    assert (library.machine, library.url) == ("there", there.url(""))
    assert library.models == (
        StoredModel("llama3.1:70b", sha("llama"), 40),
        StoredModel("phi3:mini", sha("phi"), 2),
    )
    assert (there.asked(TAGS), dead.asked(TAGS)) == (1, 0)


def test_a_model_that_comes_into_memory_and_is_not_known_to_be_on_disk_is_a_reason_to_ask_again(
    world: World, fakes: FakeFleet
) -> None:
    ollama = fakes.ollama()
    ollama.answers[TAGS] = http(tags_body())
    world.declare("one", ollama)
    with world.polled(1, 0.9):
        wait_until(lambda: world.came(Library))
        ollama.answer, ollama.answers[TAGS] = http(ollama_body("llama3.1:70b")), LLAMA
        wait_until(lambda: len(world.came(Library)) == 2)
    assert [model.model for model in world.came(Library)[1].models] == ["llama3.1:70b"]


def test_what_is_odd_on_a_disk_is_said_with_the_answers_of_its_ollama(world: World, fakes: FakeFleet) -> None:
    ollama = fakes.ollama("m")
    ollama.answers[TAGS] = http(
        b'{"models": [{"name": "m", "size": -1}, {"name": ""}, {"name": "n", "size": 7}]}'
    )
    world.declare("one", ollama)
    with world.polled(1, 0.9):
        (library,) = wait_until(lambda: world.came(Library))
        said = wait_until(lambda: [one.reason for one in world.came(PollResult) if one.reason])
    assert library.models == (StoredModel("m"), StoredModel("n", None, 7))
    assert said[0] == (
        "on its disk: invalid, so shown as unknown: m: size: -1 is out of range;"
        " models[1].name: '' is not a non-blank string"
    )
    assert {one.state for one in world.came(PollResult)} == {State.OK}


def test_tags_that_hang_hold_up_no_cycle(world: World, fakes: FakeFleet) -> None:
    ollama = fakes.ollama()
    ollama.answers[TAGS] = None
    world.declare("one", ollama)
    with world.polled(1, 0.9):
        wait_until(lambda: ollama.asked(TAGS))
        asked = ollama.asked("/api/ps")
        wait_until(lambda: ollama.asked("/api/ps") > asked + 2)
    assert not world.came(Library)
