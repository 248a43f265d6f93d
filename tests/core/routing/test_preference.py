"""The order of candidates follows what others are about to do, whatever it was before."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from machines_server.core.model_names import model_key
from machines_server.core.routing.answer import Ranking
from machines_server.core.routing.preference import Order
from tests.core.routing.fleets import LLAMA, a_fleet, a_lease, a_live, a_model, ask

NAMES = [f"m{number}" for number in range(20)]
PHI = "phi3:mini"
WARM = ask(a_fleet(*(a_live(name, (number % 5 + 1.0,), [a_model()]) for number, name in enumerate(NAMES))))
COLD = ask(
    a_fleet(
        *(
            a_live(name, (20.0,), declares=(PHI,), hostname=f"{name}.local", max_loaded_models=1)
            for name in NAMES
        )
    ),
    a_lease("m3", {"m3-0": 2.0}, model=PHI),
    model=PHI,
    cold=True,
)
KEYS = [model_key(LLAMA), model_key(PHI)]

happening = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from([*NAMES, "gone"]), st.integers(1, 9), max_size=25),
        st.dictionaries(st.sampled_from(KEYS), st.frozensets(st.sampled_from([*NAMES, "gone"]), max_size=25)),
    ),
    max_size=6,
)


def what_of(name: str, happening: tuple[dict[str, int], dict[str, frozenset[str]]]) -> Any:
    """What others are about to do with a machine."""
    counts, loads = happening
    return counts.get(name), {key for key, names in loads.items() if name in names}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([(WARM, KEYS[0]), (COLD, KEYS[1])]), happening)
def test_what_came_before_changes_nothing(
    question: tuple[Ranking, str], happened: list[tuple[dict[str, int], dict[str, frozenset[str]]]]
) -> None:
    ranking, key = question
    assert len(ranking.candidates) == len(NAMES)
    order, told = Order(ranking.candidates, key), Order(ranking.candidates, key)
    before: tuple[dict[str, int], dict[str, frozenset[str]]] = {}, {}
    told.best_first(*before)
    for counts, loads in happened:
        right = Order(ranking.candidates, key).best_first(counts, loads)
        assert order.best_first(counts, loads) == right
        changed = {name for name in NAMES if what_of(name, before) != what_of(name, (counts, loads))}
        assert told.best_first(counts, loads, {*changed, "gone"}) == right
        before = counts, loads
    assert order.best_first() == list(range(len(NAMES)))


def test_a_machine_that_others_use_comes_later() -> None:
    order = Order(WARM.candidates, KEYS[0])
    first, second, *_ = order.best_first()
    assert order.best_first({WARM.candidates[first].state.machine.name: 1})[0] == second
