"""One machine that might be used: its memory, its leases, and how long to wait for them to end."""

from collections.abc import Callable

from machines_server.core.memory import Headroom, Memory
from machines_server.core.routing.answer import Rejection, RejectionCode, format_gb
from machines_server.core.routing.leases import Lease
from machines_server.core.routing.promised_memory import PromisedMemory
from machines_server.core.sample import LoadedModel, State
from machines_server.core.state import MachineState
from machines_server.core.status import Status

EXPIRES_SOON_S = 30.0
"""A model that expires within this time may be gone when the request arrives."""


class Placement:
    """A machine that is considered for one question; `now` is in epoch seconds.

    `leases` are those on the machine, `unseen` the released ones whose models no sample shows yet; `memory`
    is what these, and leases on its host's other machines, leave.
    """

    def __init__(self, state: MachineState, promised: PromisedMemory, now: float) -> None:
        self.state, self._promised, self._now = state, promised, now
        self.name, self.leases = state.machine.name, promised.leases_on(state)
        self.unseen = promised.unseen_on(state)
        self._affecting = promised.leases_affecting(state)
        self.memory = promised.memory_left(state, self._affecting)

    def reject(
        self, code: RejectionCode, reason: str, missing: float = 0.0, retry_after_s: float | None = None
    ) -> Rejection:
        """Reject this machine for a reason."""
        return Rejection(self.name, code, reason, missing, retry_after_s)

    def reject_until(self, reason: str, wait_s: float | None) -> Rejection:
        """Reject this machine until leases have ended, in `wait_s` seconds if that is known."""
        return self.reject(RejectionCode.LEASED, reason, wait_s or 0, wait_s)

    def taken(self, *, exclusive: bool) -> Rejection | None:
        """Why leases rule the machine out whatever its memory, or None if they do not.

        `exclusive`: no other lease may be on its host.
        """
        limit, on_host = self.state.machine.max_leases, self._promised.leases_on_host(self.state)
        if sole := next((lease for lease in on_host if lease.is_exclusive), None):
            return self.reject_until("an exclusive lease holds it", sole.ends_in_s)
        if exclusive and on_host:
            reason = f"it has {_leases(len(on_host))}, but the request is exclusive"
            return self.reject_until(reason, max(lease.ends_in_s for lease in on_host))
        if limit is not None and len(self.leases) >= limit:
            ends = sorted(lease.ends_in_s for lease in self.leases)
            wait_s = ends[len(ends) - limit] if limit else None
            reason = f"it has {_leases(len(self.leases))}, and its limits.max_leases allows {limit}"
            return self.reject_until(reason, wait_s)
        return None

    def lacks_room(self, headroom: Headroom) -> Rejection | None:
        """Why the machine does not have that much free besides a model in its memory, or None if it does."""
        return self.lacks_vram(headroom.vram_gb) or self.lacks_ram(headroom.ram_gb)

    def lacks_ram(self, min_free_ram_gb: float) -> Rejection | None:
        """Why that many GiB of RAM are not free, or None if they are."""
        if not min_free_ram_gb:
            return None
        needs = f"needs {format_gb(min_free_ram_gb)} GiB of RAM"
        free = self.memory.free_ram_gb
        if free is None:
            return self.reject(RejectionCode.RAM_UNKNOWN, f"{needs}, but how much is free is unknown")
        if free >= min_free_ram_gb:
            return None
        missing = min_free_ram_gb - free
        wait_s = self.wait_s(lambda left: (left.free_ram_gb or 0) >= min_free_ram_gb)
        if wait_s is not None:
            return self.reject_until(f"{needs}, has {format_gb(free)} GiB free after leases", wait_s)
        reason = f"{needs}, has {format_gb(free)} GiB free"
        return self.reject(RejectionCode.NOT_ENOUGH_RAM, reason, missing)

    def lacks_vram(self, min_free_vram_gb: float) -> Rejection | None:
        """Why that many GiB are not free on one GPU, or None if they are."""
        if not min_free_vram_gb:
            return None
        needs = f"needs {format_gb(min_free_vram_gb)} GiB"
        free = self.memory.free_vram_gb
        if free is None:
            reason = f"{needs} of VRAM, but how much is free is unknown: {self._why_vram_is_unknown()}"
            return self.reject(RejectionCode.VRAM_UNKNOWN, reason)
        if free >= min_free_vram_gb:
            return None
        if not self.memory.gpus:
            reason = f"{needs} of VRAM, but it has no GPU"
            return self.reject(RejectionCode.NOT_ENOUGH_VRAM, reason, min_free_vram_gb)
        unpromised = self.memory.unpromised_vram_gb
        if unpromised < min_free_vram_gb:
            reason = f"{needs}, has {format_gb(unpromised)} GiB free on its best GPU"
            return self.reject(RejectionCode.NOT_ENOUGH_VRAM, reason, min_free_vram_gb - unpromised)
        reason = f"{needs}, has {format_gb(free)} GiB free on its best GPU after leases"
        return self.reject_until(
            reason, self.wait_s(lambda left: (left.free_vram_gb or 0) >= min_free_vram_gb)
        )

    def _why_vram_is_unknown(self) -> str:
        if evidence := self.state.unmeasured_gpus:
            return f"its sidecar measures no GPU, but {evidence}"
        unreadable = self.state.ollama_host.gpu_unreadable if self.state.ollama_host else ()
        return unreadable[0].reason if unreadable else "it has no sidecar"

    def wait_s(self, is_enough: Callable[[Memory], bool]) -> float | None:
        """The seconds until enough leases have ended, if none is renewed; None if that never suffices."""
        by_end = sorted(self._affecting, key=lambda lease: lease.ends_in_s)
        for ended, lease in enumerate(by_end, 1):
            if is_enough(self._promised.memory_left(self.state, by_end[ended:])):
                return lease.ends_in_s
        return None

    def expires_in_s(self, model: LoadedModel) -> float | None:
        """The seconds until a model expires, by its host's clock; None if never.

        A model below 0 is at work: Ollama extends the time only when a request has ended.
        """
        expires_at = self.state.expires_at(model)
        return None if expires_at is None else expires_at - self._now

    def age_s(self, lease: Lease) -> float:
        """The seconds since a lease was granted."""
        return max(self._now - lease.created_at, 0.0)


def _leases(count: int) -> str:
    return "1 lease" if count == 1 else f"{count} leases"


def is_in_use(model: LoadedModel, expires_in_s: float | None) -> bool:
    """Return whether the model serves a request now."""
    return model.is_working or (expires_in_s is not None and expires_in_s < 0)


def expiry_changes_at(state: MachineState, now: float) -> float:
    """When a model of that machine next expires soon; `now` while one is about to (epoch seconds)."""
    changes_at = float("inf")
    for model in state.models:
        expires_at = state.expires_at(model)
        if expires_at is not None and expires_at >= now:
            changes_at = min(changes_at, max(expires_at - EXPIRES_SOON_S, now))
    return changes_at


def unavailable(state: MachineState, next_poll_s: float | None) -> Rejection | None:
    """Why no work can be sent to the machine now, or None if it can.

    A machine in an unknown state may be retried after `next_poll_s`; None if no process polls.
    """
    status = state.verdict.status
    if status is Status.ONLINE and state.ollama in (State.OK, State.BUSY):
        return None
    name, why = state.machine.name, state.verdict.reason or ""
    if status is Status.UNKNOWN:
        return Rejection(name, RejectionCode.UNKNOWN, why, retry_after_s=next_poll_s)
    if status is not Status.ONLINE:
        return Rejection(name, RejectionCode[status.name], why)
    if state.machine.model_server is None:
        return Rejection(name, RejectionCode.NO_OLLAMA, "no Ollama is declared for it")
    why = f"its Ollama: {state.ollama_reason}"
    if state.ollama is None:
        return Rejection(name, RejectionCode.UNKNOWN, why, retry_after_s=next_poll_s)
    return Rejection(name, RejectionCode[f"OLLAMA_{state.ollama.name}"], why)
