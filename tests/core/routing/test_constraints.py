"""What a question may demand of a machine's file, and which rejection is the nearest miss."""

from typing import Any

import pytest

from machines_server.core.status import Status
from tests.core.routing.fleets import LLAMA, a_fleet, a_lease, a_live, a_model, ask, codes, names

DECLARED = {
    "tags": ["primary", "gpu", 3],
    "site": "warsaw",
    "hardware": {"ram_gb": 128, "gpu": [{"model": "A"}, {"model": "B", "vram_gb": 24.5}]},
    "owner.team": {"name": "blue"},
    "spot": True,
    "until": None,
}


@pytest.mark.parametrize(
    ("question", "fits"),
    [
        ({"role": "gpu-host"}, True),
        ({"role": "gpu"}, False),
        ({"tags": ("gpu",)}, True),
        ({"tags": ("gpu", "primary", "3")}, True),
        ({"tags": ("gpu", "edge")}, False),
        ({"exclude": frozenset({"one"})}, False),
        ({"exclude": frozenset({"other"})}, True),
        ({"where": (("site", "warsaw"),)}, True),
        ({"where": (("site", "krakow"),)}, False),
        ({"where": (("sites", "warsaw"),)}, False),
        ({"where": (("site.city", "warsaw"),)}, False),
        ({"where": (("hardware.ram_gb", "128"), ("spot", "true"))}, True),
        ({"where": (("hardware.gpu.model", "B"), ("hardware.gpu.vram_gb", "24.5"))}, True),
        ({"where": (("hardware.gpu.model", "C"),)}, False),
        ({"where": (("owner.team.name", "blue"),)}, True),
        ({"where": (("until", "null"),)}, True),
        ({"where": (("tags", "primary"),)}, True),
    ],
)
def test_constraints_are_read_from_the_machines_file(question: dict[str, Any], fits: bool) -> None:
    fleet = a_fleet(a_live("one", models=[a_model()], declared=DECLARED))
    ranking = ask(fleet, **question)
    assert bool(ranking.candidates) is fits
    assert len(ranking.candidates) + len(ranking.rejected) == 1


def test_machine_state_in_the_file_is_told_when_it_is_not_what_was_asked_for() -> None:
    fleet = a_fleet(a_live("one", models=[a_model()], declared=DECLARED))
    assert ask(fleet, where=(("site", "krakow"),)).rejected[0].reason == "its site is warsaw, not krakow"
    assert ask(fleet, tags=("edge",)).rejected[0].reason == "it is not tagged edge"


def test_a_secret_in_the_file_is_neither_told_nor_compared() -> None:
    declared = {
        "adm": {"user": "root", "password": "hunter2"},
        "tags": [{"token": "hunter2"}],
        "apiKey": "hunter2",
    }
    fleet = a_fleet(a_live("one", models=[a_model()], declared=declared))
    for path in ("adm", "adm.password", "apiKey", "tags", "tags.token"):
        for wanted in ("x", "hunter2", '{"user": "root", "password": "hunter2"}', '{"token": "hunter2"}'):
            (rejected,) = ask(fleet, where=((path, wanted),)).rejected
            assert "hunter2" not in rejected.reason.removesuffix(wanted)
    assert codes(ask(fleet, tags=('{"token": "hunter2"}',))) == {"one": "tag"}
    assert names(ask(fleet, where=(("adm.user", "root"),))) == ["one"]


def test_when_nobody_fits_the_nearest_miss_comes_first() -> None:
    fleet = a_fleet(
        a_live("far-offline", status=Status.OFFLINE, reason="x"),
        a_live("less", [1], [a_model()]),
        a_live("more", [3], [a_model()]),
        a_live("cold"),
        a_live("declared", declares=[LLAMA]),
        a_live("leased", [8], [a_model()]),
        a_live("out", [24], [a_model()]),
    )
    ranking = ask(fleet, a_lease("leased", {"leased-0": 6}), min_free_vram_gb=4, exclude=frozenset({"out"}))
    assert list(codes(ranking)) == ["leased", "more", "less", "declared", "cold", "far-offline", "out"]


def test_a_machine_that_only_its_file_keeps_away_is_a_nearer_miss_than_one_that_would_not_do_either() -> None:
    fleet = a_fleet(a_live("cold", declared={"tags": ["x"]}), a_live("warm", models=[a_model()]), a_live("a"))
    assert list(codes(ask(fleet, tags=("x",)))) == ["warm", "cold", "a"]
