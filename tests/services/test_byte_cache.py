"""The cache has a limit in bytes, whatever callers ask for."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from machines_server.core.text import MAX_QUOTED_CHARACTERS, clip, clip_list
from machines_server.services.byte_cache import ENTRY_BYTES, ByteCache
from tests.seen import say


def test_what_was_asked_for_lately_stays_and_the_oldest_goes() -> None:
    cache = ByteCache[str, str](3 * (ENTRY_BYTES + 100))
    for key in "abc":
        cache.put(key, key.upper(), 100)
    assert cache.get("a") == "A"
    cache.put("d", "D", 100)
    assert [cache.get(key) for key in "abcd"] == ["A", None, "C", "D"]


def test_a_value_that_is_too_large_is_not_kept_and_costs_no_other() -> None:
    cache = ByteCache[str, str](2000)
    cache.put("a", "A", 100)
    cache.put("b", "B", 2000)
    assert (cache.get("a"), cache.get("b")) == ("A", None)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3000))))
def test_no_order_of_questions_makes_it_larger(puts: list[tuple[int, int]]) -> None:
    cache = ByteCache[int, int](5000)
    kept: dict[int, int] = {}
    for key, size in puts:
        cache.put(key, size, size)
        if size + ENTRY_BYTES <= 5000:
            kept[key] = size
        found = {one: size for one, size in kept.items() if cache.get(one) is not None}
        assert cache.size_bytes == sum(size + ENTRY_BYTES for size in found.values()) <= 5000
        assert all(cache.get(one) == size for one, size in found.items())


def test_many_threads_ask_and_the_limit_holds() -> None:
    most = 2**20
    cache = ByteCache[str, bytes](most)

    def ask(number: int) -> None:
        for one in range(200):
            key = f"question {number} {one}"
            if cache.get(key) is None:
                cache.put(key, bytes(4000), 4000)

    tracemalloc.start()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    say(f"{kept} bytes kept of {8 * 200 * 4000} that were made, {most} allowed")
    assert kept < 1.2 * most


@given(st.text(), st.integers(1, 50))
def test_a_clipped_text_is_never_longer_than_it_may_be(text: str, most: int) -> None:
    clipped = clip(text, most)
    assert len(clipped) <= most
    assert clipped == text or (clipped.endswith("…") and text.startswith(clipped[:-1]))


def test_a_list_of_texts_names_a_few_and_counts_the_rest() -> None:
    assert clip_list(["a", "b"]) == "a, b"
    assert clip_list(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert len(clip_list(["x" * 10_000] * 10_000)) < 4 * MAX_QUOTED_CHARACTERS
