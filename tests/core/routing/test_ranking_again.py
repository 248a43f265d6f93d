"""A ranking made with the help of an earlier one equals one made from scratch."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machines_server.core.model_names import model_key
from machines_server.core.routing.answer import Candidate, Ranking
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease, Warmth
from machines_server.core.routing.loading import LoadTime
from machines_server.core.routing.question import Question
from machines_server.core.routing.ranking import rank
from machines_server.core.sample import GIB, Library, ModelSize, State, StoredModel
from machines_server.core.state import MachineState
from machines_server.core.status import Status
from tests.core.routing.fleets import LLAMA, NOW, a_fleet, a_lease, a_live, a_model

NAMES = ["alpha", "beta", "gamma"]
MODELS = [LLAMA, "phi3:mini"]
EXPIRIES_S: list[float | None] = [None, -5.0, 20.0, 31.0, 300.0]

SIZES = (ModelSize(model_key(LLAMA), None, None, 9 * GIB, None, NOW),)


def a_state(name: str, *parts: Any, is_shared: bool = False, **changes: Any) -> MachineState:
    """The state of a machine on a host of its own, or on one that others share."""
    return a_live(name, *parts, **{"hostname": "shared" if is_shared else f"{name}.local"} | changes)


states = st.builds(
    a_state,
    st.sampled_from(NAMES),
    st.sampled_from([None, (), (20.0,), (3.0, 9.0)]),
    st.lists(st.builds(a_model, st.sampled_from(MODELS), expires_s=st.sampled_from(EXPIRIES_S)), max_size=2),
    status=st.sampled_from([Status.ONLINE, Status.ONLINE, Status.OFFLINE]),
    ollama=st.sampled_from([State.OK, State.BUSY]),
    declares=st.sampled_from([(), MODELS]),
    max_loaded_models=st.sampled_from([None, 1]),
    is_shared=st.sampled_from([False, False, True]),
)
questions = st.builds(
    Question,
    st.sampled_from(["", *MODELS]),
    min_free_vram_gb=st.sampled_from([0.0, 8.0]),
    min_free_ram_gb=st.sampled_from([0.0, 70.0]),
    cold=st.booleans(),
    exclusive=st.booleans(),
)
leases = st.builds(
    a_lease,
    st.sampled_from(NAMES),
    st.sampled_from([None, {"alpha-0": 4.0}, {"ram": 8.0}]),
    model=st.sampled_from(MODELS),
    warmth=st.sampled_from([Warmth.WARM, Warmth.COLD]),
    ends_in_s=st.sampled_from([10.0, 60.0]),
    load_s=st.sampled_from([None, 5.0]),
)
libraries = st.builds(
    lambda name, model, gb: Library(
        name, a_state(name).machine.url, NOW, (StoredModel(model, None, gb * GIB),)
    ),
    st.sampled_from(NAMES),
    st.sampled_from(MODELS),
    st.sampled_from([2, 30]),
)
changes = st.one_of(
    st.tuples(st.just("state"), states),
    st.tuples(st.just("leases"), st.lists(leases, max_size=2)),
    st.tuples(st.just("library"), libraries),
    st.tuples(st.just("held_since"), st.sampled_from([{}, {"alpha": {LLAMA: NOW - 9}}])),
    st.tuples(
        st.just("sizes"),
        st.sampled_from([(), (ModelSize(model_key(LLAMA), None, None, 9 * GIB, None, NOW),)]),
    ),
    st.tuples(st.just("load_times"), st.sampled_from([(), (LoadTime("beta", model_key(LLAMA), GIB, 7.0),)])),
    st.tuples(st.just("clock"), st.sampled_from([-3600.0, 0.5, 2.0, 60.0])),
)


class Changing:
    """A fleet with its leases at a time, all of which change."""

    def __init__(self) -> None:
        self.states = {name: a_state(name, models=[a_model()]) for name in NAMES}
        self.libraries: dict[str, Library] = {}
        self.held_since: dict[str, dict[str, float]] = {}
        self.sizes: tuple[ModelSize, ...] = ()
        self.leases: list[Lease] = []
        self.load_times: tuple[LoadTime, ...] = ()
        self.now = NOW

    def change(self, what: str, value: Any) -> None:
        if isinstance(value, MachineState):
            self.states[value.machine.name] = value
        elif isinstance(value, Library):
            self.libraries[value.machine] = value
        elif what == "clock":
            self.now += value
        else:
            setattr(self, what, value)

    def fleet(self) -> Fleet:
        return Fleet(
            tuple(self.states.values()), dict(self.libraries), self.sizes, self.held_since, interval_s=5
        )

    def rank(self, question: Question, before: Ranking | None = None) -> Ranking:
        return rank(question, self.fleet(), self.leases, self.load_times, self.now, before)


@settings(max_examples=300, deadline=None)
@given(questions, st.lists(changes, min_size=1, max_size=6))
def test_an_earlier_ranking_changes_nothing(question: Question, happened: list[tuple[str, Any]]) -> None:
    changing = Changing()
    ranking = changing.rank(question)
    for what, value in happened:
        changing.change(what, value)
        ranking = changing.rank(question, ranking)
        assert ranking == changing.rank(question)


@pytest.mark.parametrize("cold", [False, True])
def test_a_machine_for_which_nothing_changed_is_not_evaluated_again(cold: bool) -> None:
    model = "phi3:mini" if cold else LLAMA
    fleet = a_fleet(*(a_state(name, models=[a_model()], declares=MODELS) for name in NAMES))
    question = Question(model, cold=cold)
    before = rank(question, fleet, (), (), NOW)
    changed = a_state("beta", (19.0,), [a_model()], declares=MODELS)
    states = tuple(changed if one.machine.name == "beta" else one for one in fleet.states)
    after = rank(question, replace(fleet, states=states), (), (), NOW + 1, before)

    def by_name(ranking: Ranking) -> dict[str, Candidate]:
        return {one.state.machine.name: one for one in ranking.candidates}

    assert len(after.candidates) == len(NAMES)
    assert {name for name, one in by_name(after).items() if one is not by_name(before)[name]} == {"beta"}


COLD = "phi3:mini"
ON_DISK = Library("alpha", a_state("alpha").machine.url, NOW - 1, (StoredModel(COLD, None, 2 * GIB),))
ALONE = a_state("alpha", models=[a_model()], declares=MODELS)
LEAVING = {"states": {"alpha": a_state("alpha", models=[a_model(expires_s=20.0)], declares=MODELS)}}
ALIAS = "alias:latest"
ALIAS_HELD: dict[str, dict[str, Any]] = {
    "states": {"alpha": a_state("alpha", models=[a_model(ALIAS, digest="d")]), "beta": a_state("beta")},
    "libraries": {"alpha": Library("alpha", ALONE.machine.url, NOW, (StoredModel(ALIAS, "d", GIB),))},
}
NAMED_ELSEWHERE = Library("beta", a_state("beta").machine.url, NOW, (StoredModel(LLAMA, "d", GIB),))
MATTERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "a sample": (LLAMA, {}, {"states": {"alpha": a_state("alpha", (7.0,), [a_model()])}}),
    "a library": (COLD, {}, {"libraries": {"alpha": ON_DISK}}),
    "a load seen": (
        LLAMA,
        {"libraries": {"alpha": ON_DISK}},
        {"held_since": {"alpha": {LLAMA: NOW - 9}}},
    ),
    "a size": (COLD, {}, {"sizes": (replace(SIZES[0], model=COLD),)}),
    "a load time": (COLD, {"sizes": SIZES}, {"load_times": (LoadTime("alpha", model_key(COLD), GIB, 7.0),)}),
    "a lease": (LLAMA, {}, {"leases": [a_lease("alpha", {"alpha-0": 4.0})]}),
    "time": (LLAMA, LEAVING, {"now": NOW + 3}),
    "a clock that was set back": (LLAMA, LEAVING | {"now": NOW + 21}, {"now": NOW + 1}),
    "another name of a model elsewhere": (
        LLAMA,
        ALIAS_HELD,
        {"libraries": ALIAS_HELD["libraries"] | {"beta": NAMED_ELSEWHERE}},
    ),
    "a second machine on the host": (
        LLAMA,
        {},
        {"states": {"alpha": ALONE, "beta": a_state("beta", None, [a_model()], hostname="alpha.local")}},
    ),
}


@pytest.mark.parametrize("what", MATTERS)
def test_what_matters_is_noticed(what: str) -> None:
    model, first, then = MATTERS[what]
    question, changing = Question(model, cold=True), Changing()
    for name, value in ({"states": {"alpha": ALONE}} | first).items():
        setattr(changing, name, value)
    before = changing.rank(question)
    for name, value in then.items():
        setattr(changing, name, value)
    ranking = changing.rank(question, before)
    assert ranking == changing.rank(question)
    assert ranking != before
