"""Names and digests: what counts as the requested model."""

from dataclasses import replace
from typing import Any

from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Warmth
from machines_server.core.sample import (
    GIB,
    StoredModel,
)
from tests.core.routing.fleets import (
    LLAMA,
    NOW,
    a_fleet,
    a_lease,
    a_live,
    a_model,
    ask,
    codes,
    names,
    only,
)


def test_names_are_compared_after_the_rules_of_ollama() -> None:
    fleet = a_fleet(a_live("one", models=[a_model("nomic-embed-text:latest")]))
    for name in ("nomic-embed-text", "NOMIC-embed-text:latest", "library/nomic-embed-text"):
        assert only(ask(fleet, model=name)).model == name
    assert codes(ask(fleet, model="nomic-embed-text:v1")) == {"one": "model_not_loaded"}


def test_another_name_of_the_same_digest_will_do_and_the_answer_says_which_name_to_send() -> None:
    fleet = a_fleet(
        a_live("named", [4], [a_model(digest="d1")]),
        a_live("alias", [8], [a_model("mine:latest", digest="d1")]),
        a_live("other", [20], [a_model("yours:latest", digest="d2")]),
    )
    assert [(one.state.machine.name, one.model) for one in ask(fleet).candidates] == [
        ("alias", "mine:latest"),
        ("named", LLAMA),
    ]


def test_a_name_that_is_on_the_disk_there_can_be_sent_even_if_an_alias_is_in_memory() -> None:
    alias = a_live("alias", [8], [a_model("mine:latest", digest="d1")])
    fleet = a_fleet(alias, on_disk={"alias": [StoredModel(LLAMA, "d1", 40 * GIB)]})
    assert only(ask(fleet)).model == LLAMA


def test_a_model_that_was_deleted_while_it_was_loaded_is_not_used() -> None:
    def fleet(*stored: StoredModel, held: str = LLAMA, since_s: float = -90, **library: Any) -> Fleet:
        live = a_live("one", models=[a_model(held, digest="d1")])
        made = a_fleet(live, on_disk={"one": stored}, held_since={"one": {held: NOW + since_s}})
        return replace(made, libraries={"one": replace(made.libraries["one"], **library)})

    phi = StoredModel("phi3:mini", "d2", GIB)
    ranking = ask(fleet(phi))
    assert codes(ranking) == {"one": "model_not_loaded"}
    assert "was deleted" in ranking.rejected[0].reason
    assert codes(ask(fleet(has_listed=True))) == {"one": "model_not_loaded"}  # it was the only one
    assert names(ask(fleet())) == ["one"]  # nor did it ever list one: a look-alike
    assert names(ask(fleet(phi, since_s=-30))) == ["one"]  # it was asked before the model came
    assert names(ask(fleet(phi, url="http://elsewhere/api/tags"))) == ["one"]
    assert names(ask(fleet(phi, StoredModel("LLAMA3.1:70b", "d3", GIB)))) == ["one"]
    alias = StoredModel("mine:latest", "d1", GIB)
    assert only(ask(fleet(phi, alias))).model == "mine:latest"  # the name is gone, the model is not
    assert only(ask(fleet(alias), model="mine")).model == "mine"
    assert codes(ask(fleet(StoredModel("mine:latest", "d1")))) == {"one": "model_not_loaded"}
    assert codes(ask(fleet(phi), cold=True)) == {"one": "model_not_there"}


CLOUD = "gpt-oss:120b-cloud"


def test_a_model_of_a_cloud_is_ready_wherever_it_is_listed_and_takes_no_memory() -> None:
    listed = {"listed": [StoredModel(CLOUD, "d1", 384, is_remote=True)], "empty": []}
    fleet = a_fleet(
        a_live("listed", [0.1]),
        a_live("declares", [], declares=[CLOUD]),
        a_live("empty", declares=[CLOUD]),
        on_disk=listed,
    )
    for question in ({}, {"cold": True}, {"min_free_vram_gb": 30, "min_context": 100_000}):
        ranking = ask(fleet, model=CLOUD, **question)
        assert names(ranking) == ["declares", "listed"]
        assert {one.warmth for one in ranking.candidates} == {Warmth.WARM}
        assert all(one.shares == () and one.digest is None for one in ranking.candidates)
    assert codes(ask(fleet, model=CLOUD)) == {"empty": "model_not_loaded"}
    empty = a_fleet(a_live("empty", declares=[CLOUD]), on_disk=listed)
    assert codes(ask(empty, model=CLOUD, cold=True)) == {"empty": "model_not_there"}
    bridged = a_fleet(a_live("one"), on_disk={"one": [StoredModel("glm", None, 300, is_remote=True)]})
    assert names(ask(bridged, model="glm:latest")) == ["one"]
    held = a_lease("declares", model=CLOUD, warmth=Warmth.COLD)  # from before it was known
    assert names(ask(fleet, held, model=CLOUD)) == ["listed", "declares"]


def test_a_digest_is_proof_only_of_what_has_the_same_size_on_disk() -> None:
    small = a_model("llama3.2:3b", gb=3, digest="d1")
    local = a_live("local", models=[small])
    on_disk = {"local": [StoredModel("llama3.2:3b", "d1", 2 * GIB)]}
    for size in (None, 1, 40 * GIB):
        on_disk["bridge"] = [StoredModel("gpt-4o-mini", "d1", size)]
        fleet = a_fleet(local, a_live("bridge"), on_disk=on_disk)
        assert codes(ask(fleet, model="gpt-4o-mini")) == {
            "bridge": "model_not_loaded",
            "local": "model_not_loaded",
        }
        assert names(ask(fleet, model="llama3.2:3b")) == ["local"]
    on_disk["bridge"] = [StoredModel("mine", "d1", 2 * GIB)]  # by `ollama cp`
    fleet = a_fleet(local, a_live("bridge"), on_disk=on_disk)
    assert [(one.state.machine.name, one.model) for one in ask(fleet, model="mine").candidates] == [
        ("local", "llama3.2:3b")
    ]


def test_a_bridge_that_holds_its_model_proves_nothing_of_other_machines() -> None:
    local = a_live("local", models=[a_model("llama3.2:3b", gb=3, digest="d1")])
    bridge = a_live("bridge", models=[a_model("gpt-4o-mini", gb=1, digest="d1")])
    on_disk = {
        "local": [StoredModel("llama3.2:3b", "d1", 2 * GIB)],
        "bridge": [StoredModel("gpt-4o-mini", "d1", GIB)],
    }
    for fleet in (
        a_fleet(local, bridge, on_disk=on_disk),
        a_fleet(local, bridge, on_disk={"bridge": on_disk["bridge"]}),
        a_fleet(local, bridge, on_disk={"local": on_disk["local"]}),
    ):
        assert names(ask(fleet, model="gpt-4o-mini")) == ["bridge"]
        assert names(ask(fleet, model="llama3.2:3b")) == ["local"]


def test_one_digest_for_models_of_different_sizes_proves_nothing() -> None:
    many = [a_model(name, gb=gb, digest="d1") for name, gb in (("a", 1), ("b", 2), ("c", 2))]
    fleet = a_fleet(a_live("many", models=many), a_live("one", models=[a_model("d", gb=2, digest="d1")]))
    assert names(ask(fleet, model="a")) == ["many"]
    assert names(ask(fleet, model="d")) == ["one"]
    listed = [StoredModel("a", "d1", GIB), StoredModel("b", "d1", 2 * GIB)]
    holder = a_live("holder", models=[a_model("a", digest="d1")])
    fleet = a_fleet(
        holder, a_live("lists"), on_disk={"holder": listed, "lists": [StoredModel("e", "d1", GIB)]}
    )
    assert not names(ask(fleet, model="b"))
    assert not names(ask(fleet, model="e"))
    assert only(ask(fleet, model="a")).digest is None  # nor may a lease go by it


def test_a_digest_of_models_of_unknown_size_proves_nothing() -> None:
    lives = [
        a_live(name, models=[a_model(name, size_bytes=None, size_vram_bytes=None, digest="d1")])
        for name in ("a", "b")
    ]
    fleet = a_fleet(*lives)
    assert names(ask(fleet, model="a")) == ["a"]
