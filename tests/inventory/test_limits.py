"""What a file says about the cards that its Ollama uses, and what its owner keeps."""

import pytest

from machines_server.core.sample import GIB
from tests.inventory.texts import GOOD, error, machine

CARDS = "{gpu: [{uuid: GPU-b}, {index: 0, uuid: GPU-a}, {index: [], uuid: c}, {index: 3, uuid: 7}]}"


def with_network(gpus: str, hardware: str = "{}") -> str:
    return GOOD.replace("hardware: {}", f"hardware: {hardware}").replace(
        "  hostname: box.lan", f"  hostname: box.lan\n  gpus: {gpus}"
    )


@pytest.mark.parametrize(
    ("gpus", "hardware", "expected"),
    [
        ("[0]", "{}", (0,)),
        ("[]", "{}", ()),
        ("[1, GPU-x, 1]", "{}", (1, "GPU-x", 1)),
        ("[0, 1, 2, 3]", CARDS, ("GPU-a", 1, 2, 3)),
        ("[0, 1]", "{gpu: [{uuid: GPU-b}, {uuid: GPU-a}]}", ("GPU-b", "GPU-a")),
    ],
)
def test_an_ollama_uses_the_cards_that_its_file_names(
    gpus: str, hardware: str, expected: tuple[int | str, ...]
) -> None:
    assert machine(with_network(gpus, hardware)).gpus == expected


def test_without_a_word_it_uses_all_cards_and_nothing_is_kept() -> None:
    box = machine(GOOD)
    assert (box.gpus, box.reserve_vram_bytes, box.max_loaded_models) == (None, 0, None)


def test_limits_are_read_and_served_as_they_are_written() -> None:
    limits = "{reserve_vram_gb: 1.5, max_loaded_models: 3, max_leases: 2, mine: x}"
    box = machine(f"{GOOD}limits: {limits}\n")
    assert (box.reserve_vram_bytes, box.max_loaded_models) == (1.5 * GIB, 3)
    assert box.declared_json["limits"] == (
        '{"reserve_vram_gb": 1.5, "max_loaded_models": 3, "max_leases": 2, "mine": "x"}'
    )


def test_a_limit_of_no_models_is_what_ollama_takes_for_no_limit_of_ours() -> None:
    assert machine(f"{GOOD}limits: {{max_loaded_models: 0}}\n").max_loaded_models is None


@pytest.mark.parametrize(
    ("limits", "key"),
    [
        ("3", "limits"),
        ("", "limits"),
        ("{reserve_vram_gb: -0.1}", "limits.reserve_vram_gb"),
        ("{reserve_vram_gb: '4'}", "limits.reserve_vram_gb"),
        ("{reserve_vram_gb: true}", "limits.reserve_vram_gb"),
        ("{reserve_vram_gb: 1e300}", "limits.reserve_vram_gb"),
        ("{max_loaded_models: 1.5}", "limits.max_loaded_models"),
        ("{max_loaded_models: -1}", "limits.max_loaded_models"),
        ("{max_loaded_models: two}", "limits.max_loaded_models"),
        ("{max_leases: -1}", "limits.max_leases"),
        ("{max_leases: []}", "limits.max_leases"),
    ],
)
def test_a_limit_that_cannot_be_is_an_error_of_its_file(limits: str, key: str) -> None:
    problem = error(f"{GOOD}limits: {limits}\n")
    assert problem.key == key
    assert "expected" in problem.message


@pytest.mark.parametrize(
    ("gpus", "key"),
    [
        ("0", "network.gpus"),
        ("", "network.gpus"),
        ("{a: 0}", "network.gpus"),
        ("[0, -1]", "network.gpus[1]"),
        ("[true]", "network.gpus[0]"),
        ("[1.0]", "network.gpus[0]"),
        ("[' ']", "network.gpus[0]"),
        ("[[0]]", "network.gpus[0]"),
    ],
)
def test_what_names_no_card_is_an_error_of_its_file(gpus: str, key: str) -> None:
    problem = error(with_network(gpus))
    assert problem.key == key
    assert "expected" in problem.message
