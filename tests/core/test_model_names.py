"""Which names mean the same model, by Ollama's own grammar."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from machines_server.core.model_names import canonical, same_model, spelled_as

WORD = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=8)
TAG = st.builds("{}{}".format, WORD, st.text(string.ascii_letters + string.digits + "_.-", max_size=8))
VALID = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "https://"]),
    st.sampled_from(["", "library/", "hf.co/org/", "localhost:5000/me/"]),
    WORD,
    TAG.map(lambda tag: f":{tag}") | st.just(""),
    st.sampled_from(["", ":local"]),
)
ANY = VALID | st.text(max_size=20) | st.text("aZ0_.-:/@ \n\u212a\u0130", max_size=12)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("nomic-embed-text", "registry.ollama.ai/library/nomic-embed-text:latest"),
        ("qwen2.5:7b", "registry.ollama.ai/library/qwen2.5:7b"),
        ("llama3.1:70b-instruct-q4_K_M", "registry.ollama.ai/library/llama3.1:70b-instruct-q4_k_m"),
        ("me/mine", "registry.ollama.ai/me/mine:latest"),
        ("hf.co/org/m:Q4", "hf.co/org/m:q4"),
        ("huggingface.co/org/m:Q4", "huggingface.co/org/m:q4"),
        ("localhost:5000/org/m", "localhost:5000/org/m:latest"),
        ("localhost:5000/org/m:7b", "localhost:5000/org/m:7b"),
        ("http://registry.ollama.ai/library/m:7b", "registry.ollama.ai/library/m:7b"),
        ("qwen3:8b:local", "registry.ollama.ai/library/qwen3:8b"),
        ("qwen3:LOCAL", "registry.ollama.ai/library/qwen3:latest"),
        ("_x", "registry.ollama.ai/library/_x:latest"),
    ],
)
def test_a_short_name_stands_for_a_full_one(name: str, full: str) -> None:
    assert canonical(name) == full


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "m:", ":tag", ":local", "/", "/m", "a/", "a//m", "a/b/c/d", "m@sha256:x"),
        *("localhost:5000/m", "a.b/m", ".m", "-m", "m:-t", "m:.t", "m:a:b", "m n", "m\n", "\nm", "m:7b\n"),
        *("m:local:local", "m:7b:local:local", "a:b/m", "ü", "m:ü", "phi\u212a", "\u0130", "m\0", "://"),
        *("m" * 81, "m:" + "t" * 81, "n" * 81 + "/m", "h" * 351 + "/n/m", "m" * 1_000_000),
    ],
)
def test_a_name_that_ollama_would_refuse_has_no_full_form(name: str) -> None:
    assert canonical(name) is None


def test_the_longest_parts_that_ollama_takes_are_taken() -> None:
    longest = "/".join(["h" * 350, "n" * 80, "m" * 80]) + ":" + "t" * 80
    assert canonical(longest) == longest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("nomic-embed-text", "nomic-embed-text:latest"),
        ("nomic-embed-text", "library/nomic-embed-text"),
        ("Nomic-Embed-Text", "registry.ollama.ai/library/nomic-embed-text:LATEST"),
        ("hf.co/bartowski/X-70B-GGUF:Q4_K_M", "hf.co/bartowski/x-70b-gguf:q4_k_m"),
        ("qwen3:8b:local", "qwen3:8b"),
        ("https://hf.co/org/m", "hf.co/org/m:latest"),
        ("no such/name at all", "no such/name at all"),
    ],
)
def test_spellings_of_one_model_are_the_same(one: str, other: str) -> None:
    assert same_model(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("qwen2.5:7b", "qwen2.5:72b"),
        ("qwen2.5:7b", "qwen2.5"),
        ("qwen2.5", "qwen2"),
        ("hf.co/org/m:Q4", "huggingface.co/org/m:Q4"),
        ("hf.co/org/m:Q4", "org/m:Q4"),
        ("me/m", "m"),
        ("m:", "m"),
        ("M:", "m:"),
        ("", "latest"),
    ],
)
def test_different_models_are_not_the_same(one: str, other: str) -> None:
    assert not same_model(one, other)


@given(ANY)
@example("m:local:local")
@example("a://b://c")
def test_the_full_form_is_its_own_full_form(name: str) -> None:
    full = canonical(name)
    if full is not None:
        assert canonical(full) == full


@given(VALID)
def test_every_valid_name_has_a_full_form_with_every_part(name: str) -> None:
    full = canonical(name)
    if name.lower().endswith(":local:local"):
        assert full is None
    else:
        assert full is not None
        assert full.count("/") == 2
        assert full.rpartition("/")[2].count(":") == 1


@given(ANY)
def test_case_makes_no_difference(name: str) -> None:
    swapped = "".join(letter.swapcase() if letter.isascii() else letter for letter in name)
    assert canonical(swapped) == canonical(name)


@given(ANY, ANY, ANY)
def test_being_the_same_model_is_an_equivalence(one: str, two: str, three: str) -> None:
    assert same_model(one, one)
    assert same_model(one, two) == same_model(two, one)
    if same_model(one, two) and same_model(two, three):
        assert same_model(one, three)


@given(VALID)
def test_a_valid_name_is_the_same_model_as_its_full_form(name: str) -> None:
    full = canonical(name)
    assert full is None or same_model(name, full)


@pytest.mark.parametrize(
    ("name", "declared", "spelled"),
    [
        ("nomic-embed-text:latest", ("llama3.1:70b", "nomic-embed-text"), "nomic-embed-text"),
        ("llama3.1:70B", ("llama3.1:70b",), "llama3.1:70b"),
        ("phi3:mini", ("phi3",), "phi3:mini"),
        ("phi3:mini", (), "phi3:mini"),
        ("m:latest", ("M", "m"), "M"),
        ("<script>", ("<script>",), "<script>"),
    ],
)
def test_a_model_is_spelled_as_the_machine_file_spells_it(
    name: str, declared: tuple[str, ...], spelled: str
) -> None:
    assert spelled_as(name, declared) == spelled
