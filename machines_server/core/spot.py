"""One machine that could be used: its memory, its leases, and when they would leave enough."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from machines_server.core.advice import Ask, Rejection, as_text, gb, stands_at
from machines_server.core.leases import Lease, listed_as, promised
from machines_server.core.live import Live
from machines_server.core.memory import Memory
from machines_server.core.sample import LoadedModel, State
from machines_server.core.status import Status


class Spot:
    """A machine as one question sees it; `now` in epoch seconds."""

    def __init__(self, live: Live, leases: Sequence[Lease], since: Mapping[str, float], now: float) -> None:
        self.live, self.leases, self._since, self._now = live, leases, since, now
        self.name = live.machine.name
        self.memory = self._memory(leases) if leases else live.memory

    def rejected(
        self, code: str, reason: str, missing: float = 0.0, retry_after_s: float | None = None
    ) -> Rejection:
        """This machine, with the reason why it is not fit."""
        return Rejection(self.name, code, reason, missing, retry_after_s)

    def lacks_vram(self, min_free_vram_gb: float) -> Rejection | None:
        """Why there is not that much free on one GPU, or None if there is."""
        if not min_free_vram_gb:
            return None
        needs = f"needs {gb(min_free_vram_gb)}"
        free = self.memory.free_vram_gb
        if free is None:
            unreadable = self.live.host.gpu_unreadable if self.live.host else ()
            why = unreadable[0].reason if unreadable else "it has no sidecar"
            return self.rejected("vram_unknown", f"{needs} (GiB), and what it has is not known: {why}")
        if free >= min_free_vram_gb:
            return None
        if not self.memory.gpus:
            return self.rejected("not_enough_vram", f"{needs} (GiB), and it has no GPU", min_free_vram_gb)
        unpromised = self.memory.unpromised_vram_gb
        if unpromised < min_free_vram_gb:
            reason = f"{needs}, has {gb(unpromised)} on its best GPU (GiB)"
            return self.rejected("not_enough_vram", reason, min_free_vram_gb - unpromised)
        wait_s = self.until(lambda then: (then.free_vram_gb or 0) >= min_free_vram_gb)
        reason = f"{needs}, has {gb(free)} on its best GPU beside what is leased (GiB)"
        return self.rejected("leased", reason, wait_s or 0, wait_s)

    def until(self, is_enough: Callable[[Memory], bool]) -> float | None:
        """The seconds until enough leases have ended, if none is renewed; None if that does not help."""
        by_end = sorted(self.leases, key=lambda lease: lease.ends_in_s)
        for ended, lease in enumerate(by_end, 1):
            if is_enough(self._memory(by_end[ended:])):
                return lease.ends_in_s
        return None

    def expires_in_s(self, model: LoadedModel) -> float | None:
        """The seconds until a model leaves memory by its host's own clock; None is never.

        Below 0 it is at work: Ollama puts the time off only when a request has ended.
        """
        if model.expires_at is None:
            return None
        now = self._now + self.live.clock_ahead_s
        return datetime.fromisoformat(model.expires_at).timestamp() - now

    def is_leased(self, model: LoadedModel) -> bool:
        """Whether somebody has a lease for a model that is in memory."""
        return any(listed_as(lease.model, lease.digest, (model,)) for lease in self.leases)

    def elapsed_s(self, lease: Lease) -> float:
        """For how long a lease has been held."""
        return max(self._now - lease.created_at, 0.0)

    def _memory(self, leases: Iterable[Lease]) -> Memory:
        return Memory(self.live.host, promised(leases, self.live, self._since))


def unfit(ask: Ask, live: Live) -> Rejection | None:
    """Why the machine's file does not meet the question, or None if it does."""
    machine = live.machine
    if ask.exclude and machine.name.casefold() in ask.exclude:
        return Rejection(machine.name, "excluded", "the question excludes it")
    if ask.role is not None and machine.role != ask.role:
        return Rejection(machine.name, "role", f"its role is {machine.role}, not {ask.role}")
    if ask.tags:
        tags = {as_text(tag) for tag in stands_at(machine.declared, "tags")}
        if missing := [tag for tag in ask.tags if tag not in tags]:
            return Rejection(machine.name, "tag", f"it is not tagged {', '.join(missing)}")
    for path, wanted in ask.where:
        values = [as_text(value) for value in stands_at(machine.declared, path)]
        if wanted not in values:
            found = (
                f"its {path} is {', '.join(values)}, not" if values else f"it has no {path}, which should be"
            )
            return Rejection(machine.name, "where", f"{found} {wanted}")
    return None


def unreachable(live: Live, known_in_s: float | None) -> Rejection | None:
    """Why no work can be sent to the machine now, or None if it can; what is unknown may be known soon."""
    status = live.verdict.status
    if status is Status.ONLINE and live.ollama in (State.OK, State.BUSY):
        return None
    name, why = live.machine.name, live.verdict.reason or ""
    if status is Status.UNKNOWN:
        return Rejection(name, "unknown", why, retry_after_s=known_in_s)
    if status is not Status.ONLINE:
        return Rejection(name, status.value, why)
    if not live.machine.has_ollama:
        return Rejection(name, "no_ollama", "no Ollama is declared for it")
    if live.ollama is None:
        return Rejection(name, "unknown", f"its Ollama: {live.ollama_reason}", retry_after_s=known_in_s)
    return Rejection(name, f"ollama_{live.ollama.value}", f"its Ollama: {live.ollama_reason}")
