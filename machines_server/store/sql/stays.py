"""Stays of models in memory: one row for the time from the first to the last listing of a model."""

from collections.abc import Callable
from dataclasses import replace

from machines_server.core.past.events import loaded_event, unloaded_event
from machines_server.core.sample import LoadedModel
from machines_server.store.sql.budget import HourlyBudget
from machines_server.store.sql.events import EventTable, to_ms
from machines_server.store.sql.residency import add_stay
from machines_server.store.sql.rows import Rows

_BEGIN_SPAN = """
INSERT INTO model_span (
    machine_id, model, digest, size_bytes, size_vram_bytes, context_length, first_seen_at_ms, absent_at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id"""

_SET_SIZE = """
INSERT INTO model_size (machine_id, model, digest, context_length, size_bytes, size_vram_bytes, seen_at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (machine_id, model, digest, context_length) DO UPDATE SET
    size_bytes = excluded.size_bytes, size_vram_bytes = excluded.size_vram_bytes,
    seen_at_ms = excluded.seen_at_ms"""


class Stays:
    """Follows which models each machine lists; a model that stays costs no write."""

    def __init__(
        self,
        connection: Rows,
        events: EventTable,
        max_gap_ms: int,
        budget: HourlyBudget,
        is_added_later: Callable[[int], bool] = lambda _: False,
    ) -> None:
        """`budget` limits how many stays may begin.

        `is_added_later` returns whether the stay with an id is added to the totals by somebody else.
        """
        self._connection, self._events, self._max_gap_ms, self._budget = (
            connection,
            events,
            max_gap_ms,
            budget,
        )
        self._is_added_later = is_added_later
        self._held: dict[int, dict[LoadedModel, tuple[int, int]]] = {}
        self._listed: dict[int, tuple[LoadedModel, ...]] = {}
        self._listed_at: dict[int, int] = {}
        self._left_out: set[int] = set()

    def read_back(self) -> None:
        """Read the unfinished stays from the database, and when each model server last answered."""
        rows = self._connection.execute(
            "SELECT machine_id, answered_at_ms FROM latest"
            " WHERE models IS NOT NULL AND answered_at_ms IS NOT NULL"
        )
        self._listed_at = dict(rows)
        self._held, self._listed = {}, {}
        self._left_out.clear()
        for number, machine, began_ms, *stay in self._connection.execute(
            "SELECT id, machine_id, first_seen_at_ms, model, digest, size_bytes, size_vram_bytes,"
            " context_length FROM model_span WHERE last_seen_at_ms IS NULL"
        ):
            self._held.setdefault(machine, {})[LoadedModel(*stay)] = number, began_ms

    def follow(self, machine: int, at: float, listed: tuple[LoadedModel, ...]) -> bool:
        """Begin and end stays; they continue while the model server does not answer.

        Returns whether anything may have changed.
        """
        at_ms = to_ms(at)
        seen_ms = self._listed_at.get(machine, at_ms)
        self._listed_at[machine] = at_ms
        is_unchanged = self._listed.get(machine) is listed and machine not in self._left_out
        if is_unchanged and abs(at_ms - seen_ms) <= self._max_gap_ms:
            return False
        self._listed[machine] = listed
        self._left_out.discard(machine)
        held = self._held.setdefault(machine, {})
        # A request to the model changes these two fields, and begins no other stay.
        now_held = {replace(model, expires_at=None, is_working=False) for model in listed}
        for model in held.keys() - now_held:
            number, began_ms = held.pop(model)
            self._end(number, machine, model, began_ms, seen_ms)
            self._events.add(machine, unloaded_event(at, model, (seen_ms - began_ms) / 1000))
        absent_ms = seen_ms if 0 < at_ms - seen_ms <= self._max_gap_ms else None
        for model in now_held - held.keys():
            if self._begin(machine, model, at_ms, absent_ms):
                self._events.add(machine, loaded_event(at, model))
        if abs(at_ms - seen_ms) > self._max_gap_ms:
            # The model is there again, or still: no event, since what happened in between is unknown.
            for model, (number, began_ms) in tuple(held.items()):
                if began_ms != at_ms:
                    del held[model]
                    self._end(number, machine, model, began_ms, seen_ms)
                    self._begin(machine, model, at_ms)
        return True

    def _begin(self, machine: int, model: LoadedModel, at_ms: int, absent_ms: int | None = None) -> bool:
        """Begin a stay, unless the machine has begun too many within this hour.

        At `absent_ms` the model was not listed yet; None if unknown.
        """
        if not self._budget.take(machine, model.model, at_ms):
            self._left_out.add(machine)
            return False
        stay = (model.model, model.digest, model.size_bytes, model.size_vram_bytes, model.context_length)
        if model.size_bytes:
            name = (model.model, model.digest or "", model.context_length or 0)
            took = (model.size_bytes, model.size_vram_bytes, at_ms)
            self._connection.execute(_SET_SIZE, (machine, *name, *took))
        number = self._connection.execute(_BEGIN_SPAN, (machine, *stay, at_ms, absent_ms)).fetchone()[0]
        self._held[machine][model] = number, at_ms
        return True

    def _end(self, stay: int, machine: int, model: LoadedModel, began_ms: int, ended_ms: int) -> None:
        self._connection.execute("UPDATE model_span SET last_seen_at_ms = ? WHERE id = ?", (ended_ms, stay))
        if not self._is_added_later(stay):
            add_stay(self._connection, machine, model.model, began_ms, ended_ms)

    def end_all(self, machine: int) -> None:
        """End all stays at a machine that is no longer polled."""
        self._listed.pop(machine, None)
        self._left_out.discard(machine)
        for model, (number, began_ms) in self._held.pop(machine, {}).items():
            self._end(number, machine, model, began_ms, self._listed_at.get(machine, began_ms))
