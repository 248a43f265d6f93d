"""Limits how many new rows and names a machine may add within an hour, since hosts choose names."""

from collections import Counter
from dataclasses import dataclass

from machines_server.store.sql.rows import Rows

HOUR_MS = 3_600_000
MAX_MODELS_AN_HOUR, MAX_LOADS_AN_HOUR, MAX_GPUS_AN_HOUR = 100, 500, 64
MAX_REBOOTS_AN_HOUR = MAX_CHANGES_AN_HOUR = 12
MAX_SERVICE_EVENTS_AN_HOUR = 500

_MODELS_SINCE = """
SELECT model, count(*) FROM model_span WHERE machine_id = ? AND first_seen_at_ms >= ? GROUP BY model"""
_EVENTS_SINCE = """
SELECT type, count(*) FROM event
WHERE machine_id = ? AND at_ms >= ? AND type = '{type}' GROUP BY type"""
_REBOOTS_SINCE, _HOST_CHANGES_SINCE = (
    _EVENTS_SINCE.format(type="host_rebooted"),
    _EVENTS_SINCE.format(type="host_changed"),
)
_SERVICE_EVENTS_SINCE = """
SELECT type, count(*) FROM event
WHERE machine_id = ? AND at_ms >= ? AND type IN ('service_up', 'service_down') GROUP BY type"""


@dataclass(slots=True)
class _Hour:
    """How many rows with each name a machine has added since an hour began."""

    began_ms: int
    rows: Counter[str]


class HourlyBudget:
    """Counts rows, and names in them, for each machine; after a restart it counts those in the database."""

    def __init__(self, connection: Rows, since: str, rows: int, names: int, what: str) -> None:
        """`since` selects a machine's names and rows since a moment (epoch ms); `what` names the limit."""
        self._connection, self._since, self._rows, self._names = connection, since, rows, names
        self.remark = f"over {what} within an hour; the others are left out of the history"
        self._hours: dict[int, _Hour] = {}
        self.spent: dict[int, int] = {}
        """By machine, the hour in which it last exceeded the limit."""

    def take(self, machine: int, name: str, at_ms: int) -> bool:
        """Return whether the machine may add one more row with that name; if so, count it."""
        hour = self._hours.get(machine)
        began_ms = at_ms // HOUR_MS * HOUR_MS
        if hour is None or hour.began_ms != began_ms:
            rows = self._connection.execute(self._since, (machine, began_ms))
            hour = self._hours[machine] = _Hour(began_ms, Counter(dict(rows)))
        too_many_names = name not in hour.rows and len(hour.rows) >= self._names
        if too_many_names or hour.rows.total() >= self._rows:
            self.spent[machine] = began_ms
            return False
        hour.rows[name] += 1
        return True

    def is_spent(self, machine: int, at_ms: int) -> bool:
        """Return whether a row of the machine was refused within this hour."""
        return self.spent.get(machine) == at_ms // HOUR_MS * HOUR_MS

    def forget(self) -> None:
        """Count again: what was counted may not have been written."""
        self._hours.clear()
        self.spent.clear()


class Budgets:
    """All budgets, and the remark about a machine that has spent one."""

    def __init__(self, connection: Rows, gpus_since: str) -> None:
        """`gpus_since` selects the UUID of each GPU of a machine that is new since a moment (ms), and 1."""
        loads = f"{MAX_MODELS_AN_HOUR} new models or {MAX_LOADS_AN_HOUR} loads"
        self.loads = HourlyBudget(connection, _MODELS_SINCE, MAX_LOADS_AN_HOUR, MAX_MODELS_AN_HOUR, loads)
        gpus, reboots = MAX_GPUS_AN_HOUR, MAX_REBOOTS_AN_HOUR
        self.gpus = HourlyBudget(connection, gpus_since, gpus, gpus, f"{gpus} new GPUs")
        self.reboots = HourlyBudget(connection, _REBOOTS_SINCE, reboots, 1, f"{reboots} reboots")
        changes = MAX_CHANGES_AN_HOUR
        self.changes = HourlyBudget(connection, _HOST_CHANGES_SINCE, changes, 1, f"{changes} changes of host")
        services = MAX_SERVICE_EVENTS_AN_HOUR
        self.services = HourlyBudget(
            connection, _SERVICE_EVENTS_SINCE, services, services, f"{services} events of services"
        )
        self._all = self.loads, self.gpus, self.reboots, self.changes, self.services

    @property
    def any_spent(self) -> bool:
        """Whether any machine may have spent a budget."""
        return any(budget.spent for budget in self._all)

    def remark(self, machine: int, at_ms: int, *, reports_host: bool) -> str | None:
        """A remark if an endpoint sends more than is kept, or None; its kind decides which budgets count."""
        budgets = self._all[1:] if reports_host else self._all[:1]
        spent = (budget for budget in budgets if budget.is_spent(machine, at_ms))
        return "; ".join(budget.remark for budget in spent) or None

    def forget(self) -> None:
        """Count all again."""
        for budget in self._all:
            budget.forget()
