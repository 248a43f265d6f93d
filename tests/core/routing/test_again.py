"""Re-evaluating a candidate in view of only the leases on its host."""

import pytest

from machines_server.core.routing.answer import Candidate, Rejection
from machines_server.core.routing.question import Question
from machines_server.core.routing.ranking import evaluated_again, rank
from tests.core.routing.fleets import LLAMA, NOW, a_fleet, a_lease, a_live, a_model

FLEET = a_fleet(a_live("one", [10], [a_model()]), a_live("two", [9], [a_model()]))
ROOM = Question(LLAMA, min_free_vram_gb=6)


def test_it_is_what_a_ranking_by_all_leases_finds() -> None:
    leases = [a_lease("one", {"one-0": 3}), a_lease("two", {"two-0": 8})]
    best, _ = rank(ROOM, FLEET, [], [], NOW).candidates
    again = evaluated_again(best, ROOM, FLEET, leases[:1], [], NOW)
    assert again == rank(ROOM, FLEET, leases, [], NOW).candidates[0]


def test_it_is_refused_once_others_hold_what_it_takes() -> None:
    best = rank(ROOM, FLEET, [], [], NOW).candidates[0]
    again = evaluated_again(best, ROOM, FLEET, [a_lease("one", {"one-0": 5})], [], NOW)
    assert isinstance(again, Rejection)
    assert again.code == "leased"


@pytest.mark.parametrize("cold", [False, True])
def test_one_that_has_to_load_may_still_do_so(cold: bool) -> None:
    fleet = a_fleet(a_live("one", [24], declares=[LLAMA]))
    loading = Question(LLAMA, cold=True)
    (best,) = rank(loading, fleet, [], [], NOW).candidates
    again = evaluated_again(best, Question(LLAMA, cold=cold), fleet, [], [], NOW)
    assert isinstance(again, Candidate) == cold
