"""Stays of models in memory: one row from when a model was first listed until it was last listed."""

import sqlite3
from dataclasses import replace

from machines_server.core.changes import loaded_event, unloaded_event
from machines_server.core.registry import Endpoint
from machines_server.core.sample import LoadedModel
from machines_server.store.events import add_event, to_ms

_BEGIN_SPAN = """
INSERT INTO model_span (
    machine_id, model, digest, size_bytes, size_vram_bytes, context_length, first_seen_at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?)"""

_SET_SIZE = "INSERT OR REPLACE INTO model_size VALUES (?, ?, ?, ?, ?, ?)"


class Stays:
    """Follows what each Ollama lists; a model that stays costs no write."""

    def __init__(self, connection: sqlite3.Connection, max_gap_ms: int) -> None:
        self._connection, self._max_gap_ms = connection, max_gap_ms
        self._held: dict[int, dict[LoadedModel, tuple[int, int]]] = {}
        self._listed: dict[int, tuple[LoadedModel, ...]] = {}
        self._listed_at: dict[int, int] = {}

    def read_back(self) -> None:
        """Know what the database knows: which stays go on, and when each Ollama last answered."""
        rows = self._connection.execute(
            "SELECT machine_id, answered_at_ms FROM latest WHERE endpoint = ? AND answered_at_ms IS NOT NULL",
            (Endpoint.OLLAMA,),
        )
        self._listed_at = dict(rows)
        self._held, self._listed = {}, {}
        for number, machine, began_ms, *stay in self._connection.execute(
            "SELECT id, machine_id, first_seen_at_ms, model, digest, size_bytes, size_vram_bytes,"
            " context_length FROM model_span WHERE last_seen_at_ms IS NULL"
        ):
            self._held.setdefault(machine, {})[LoadedModel(*stay)] = number, began_ms

    def follow(self, machine: int, at: float, listed: tuple[LoadedModel, ...]) -> None:
        """Begin and end stays. While Ollama does not answer they go on: nobody saw them end."""
        at_ms = to_ms(at)
        seen_ms = self._listed_at.get(machine, at_ms)
        self._listed_at[machine] = at_ms
        if self._listed.get(machine) is listed and abs(at_ms - seen_ms) <= self._max_gap_ms:
            return
        self._listed[machine] = listed
        held = self._held.setdefault(machine, {})
        now_held = {replace(model, expires_at=None) for model in listed}  # which a request puts off
        for model in held.keys() - now_held:
            number, began_ms = held.pop(model)
            self._end(number, seen_ms)
            add_event(self._connection, machine, unloaded_event(at, model, (seen_ms - began_ms) / 1000))
        for model in now_held - held.keys():
            held[model] = self._begin(machine, model, at_ms), at_ms
            add_event(self._connection, machine, loaded_event(at, model))
        if abs(at_ms - seen_ms) > self._max_gap_ms:
            # It is there again, or still: that is no event, but what lay between was not seen.
            for model, (number, began_ms) in held.items():
                if began_ms != at_ms:
                    self._end(number, seen_ms)
                    held[model] = self._begin(machine, model, at_ms), at_ms

    def _begin(self, machine: int, model: LoadedModel, at_ms: int) -> int:
        stay = (model.model, model.digest, model.size_bytes, model.size_vram_bytes, model.context_length)
        if model.size_bytes:
            name = (model.model, model.digest or "", model.context_length or 0)
            self._connection.execute(_SET_SIZE, (*name, model.size_bytes, model.size_vram_bytes, at_ms))
        return self._connection.execute(_BEGIN_SPAN, (machine, *stay, at_ms)).lastrowid or 0

    def _end(self, span: int, last_seen_at_ms: int | None) -> None:
        self._connection.execute(
            "UPDATE model_span SET last_seen_at_ms = coalesce(?, first_seen_at_ms) WHERE id = ?",
            (last_seen_at_ms, span),
        )

    def end_all(self, machine: int) -> None:
        """End what goes on at a machine that nobody asks any more."""
        self._listed.pop(machine, None)
        for number, _ in self._held.pop(machine, {}).values():
            self._end(number, self._listed_at.get(machine))
