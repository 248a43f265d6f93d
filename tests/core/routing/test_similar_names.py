"""Suggestions for names that no model has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.core.model_names import model_key
from machines_server.core.routing.similar_names import MAX_SUGGESTIONS, similar_names

HF = "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M"
KNOWN = (
    *("llama3.1:70b", "llama3.1:8b", HF, "nomic-embed-text:latest", "qwen2.5:7b", "qwen2.5:72b"),
    *("mistral:7b", "gemma3:4b", "hf.co/other/Llama-3.2-1B-Instruct-GGUF:Q4_K_M"),
)


@pytest.mark.parametrize(
    ("asked", "closest"),
    [
        ("llama3.1", "llama3.1:8b"),
        ("ollama/llama3.1:8b", "llama3.1:8b"),
        ("ollama/llama3.1:70b", "llama3.1:70b"),
        (HF.replace("hf.co", "huggingface.co"), HF),
        (HF.removeprefix("hf.co/"), HF),
        (f"ollama/{HF}", HF),
        ("bartowski/Llama-3.2-1B-Instruct-GGUF", HF),
        ("Llama-3.1-8B", "llama3.1:8b"),
        ("lama3.1:70b", "llama3.1:70b"),
        ("llama3.1:8b-instruct-q4_K_M", "llama3.1:8b"),
        ("openai/gemma3:4b", "gemma3:4b"),
        ("nomic-embed-txt", "nomic-embed-text:latest"),
        ("qwen2.5:14b", "qwen2.5:7b"),
        ("gamma3", "gemma3:4b"),
        ("llama3.1:", "llama3.1:8b"),
    ],
)
def test_the_closest_name_comes_first(asked: str, closest: str) -> None:
    assert similar_names(asked, KNOWN)[0] == closest


@pytest.mark.parametrize("asked", ["gpt-4o-mini", "", "/", ":", "a/b/c/d", "日本"])
def test_a_name_that_resembles_none_has_no_suggestions(asked: str) -> None:
    assert similar_names(asked, KNOWN) == ()


def test_a_name_is_given_once_however_often_it_is_spelled_and_at_most_five_are() -> None:
    assert similar_names("llama3", ["llama3:8b", "library/llama3:8b", "LLAMA3:8b"]) == ("llama3:8b",)
    assert len(similar_names("m", [f"m:{number}b" for number in range(20)])) == MAX_SUGGESTIONS


def test_of_equally_similar_names_the_first_is_first() -> None:
    assert similar_names("m", ["m:2b", "m:1b"]) == ("m:2b", "m:1b")


def test_a_name_is_not_similar_to_itself() -> None:
    assert similar_names("llama3.1", ["llama3.1:latest", "llama3.1:8b"]) == ("llama3.1:8b",)


@given(st.text(max_size=600), st.lists(st.text(max_size=300), max_size=30))
def test_whatever_is_asked_some_of_the_known_are_given_and_none_of_the_same_name(
    asked: str, known: list[str]
) -> None:
    similar = similar_names(asked, known)
    assert len(similar) <= MAX_SUGGESTIONS
    assert set(similar) <= set(known)
    assert model_key(asked) not in map(model_key, similar)


def test_a_long_name_among_ten_thousand_long_ones_is_found() -> None:
    known = [f"hf.co/someone/{'ab-' * 30}{number}:Q4_K_M" for number in range(10_000)]
    asked = known[9_000].removeprefix("hf.co/")
    assert similar_names("x" * 512, known) == ()
    assert similar_names(asked, known)
