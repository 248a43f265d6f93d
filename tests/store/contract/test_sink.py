"""Everybody sees what is put into a sink, at once or as soon as the store can be written again."""

from contextlib import ExitStack, suppress
from functools import partial

from machines_server.core.sample import Cycle, RuntimeState
from machines_server.errors import StoreError
from machines_server.store.api import Present, Sink
from tests.fakes import wait_until
from tests.store.contract.stores import Stores
from tests.store.polls import HOST, REGISTRY, answered


def opened_sink(stores: Stores, opened: ExitStack, faults: list[str | None]) -> Sink:
    sink = stores.sink(faults.append)
    opened.callback(wait_until, sink.close, 60)
    return sink


def sees(present: Present, cycle: Cycle) -> bool:
    """Whether that is the latest cycle; a store that was never written cannot be read."""
    with suppress(StoreError):
        return present.cycle() == cycle
    return False


def test_what_is_put_is_seen_by_others_while_the_sink_is_open(
    stores: Stores, present: Present, opened: ExitStack
) -> None:
    faults: list[str | None] = []
    sink = opened_sink(stores, opened, faults)
    for number in range(3):
        sink.put(REGISTRY)
        sink.put(answered(10.0 + number))
        cycle = Cycle(10.0 + number, 11.0 + number, 5, 2)
        sink.put(cycle)
        wait_until(partial(sees, present, cycle))
    assert present.snapshot().latest["one"]["sidecar"].polled_at == 12.0
    assert faults == []


def test_what_was_put_is_written_before_it_has_closed(stores: Stores, present: Present) -> None:
    for number in range(10):
        sink = stores.sink(lambda _: None)
        sink.put(REGISTRY)
        sink.put(Cycle(1.0, 2.0, 5, 2))
        sink.put(Cycle(number, number + 1, 5, 2))
        wait_until(sink.close, 60)
        assert present.cycle() == Cycle(number, number + 1, 5, 2)


def test_what_is_put_while_the_store_is_unavailable_is_written_later(
    stores: Stores, present: Present, opened: ExitStack
) -> None:
    faults: list[str | None] = []
    sink = opened_sink(stores, opened, faults)
    sink.put(REGISTRY)
    sink.put(Cycle(1.0, 2.0, 5, 2))
    wait_until(lambda: sees(present, Cycle(1.0, 2.0, 5, 2)))
    stores.break_off()
    sink.put(answered(10.0))
    sink.put(Cycle(10.0, 11.0, 5, 2))
    wait_until(lambda: faults and faults[-1])
    stores.mend()
    wait_until(lambda: faults[-1] is None)
    assert present.cycle() == Cycle(10.0, 11.0, 5, 2)
    assert present.snapshot().latest["one"]["sidecar"].answer == RuntimeState(host=HOST)
