"""The memory that all leases together promise, even where machine files share a GPU or a host."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from machines_server.core.memory import RAM, RECLAIMABLE, Memory
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease, is_leased, may_be_unseen, promised_shares
from machines_server.core.state import MachineState


class PromisedMemory:
    """The leases of a fleet, by machine and by the GPU or host whose memory they promise."""

    def __init__(self, leases: Iterable[Lease], fleet: Fleet) -> None:
        self._fleet = fleet
        self._by_machine: dict[str, list[Lease]] = {}
        self._unseen: dict[str, list[Lease]] = {}
        """Released leases whose models no sample can show yet."""
        self._machines_by_part: dict[str, set[str]] = {}
        """The machines with leases that promise memory of each part."""
        for lease in leases:
            machine = lease.machine.casefold()
            if lease.released_at is None:
                self._by_machine.setdefault(machine, []).append(lease)
            elif self._may_be_unseen(lease):
                self._unseen.setdefault(machine, []).append(lease)
            else:
                continue
            for share in lease.shares:
                self._machines_by_part.setdefault(self._part(lease, share.of), set()).add(machine)

    def leases_on(self, state: MachineState) -> Sequence[Lease]:
        """The leases on a machine."""
        return self._by_machine.get(state.machine.name.casefold(), ())

    def unseen_on(self, state: MachineState) -> Sequence[Lease]:
        """The released leases whose models may be in the machine's memory, though no sample shows them."""
        return self._unseen.get(state.machine.name.casefold(), ())

    def _may_be_unseen(self, lease: Lease) -> bool:
        state = self._fleet.state_of(lease.machine)
        return state is not None and may_be_unseen(lease, state, self._fleet.held_since_on(state))

    def leases_on_host(self, state: MachineState) -> Sequence[Lease]:
        """The leases on a machine and on the other machines of its host."""
        if not self._by_machine:
            return ()
        others = (lease for other in self._fleet.others_on_host(state) for lease in self.leases_on(other))
        return [*self.leases_on(state), *others]

    def leases_affecting(self, state: MachineState) -> Sequence[Lease]:
        """The leases on a machine, and those on other machines that share its memory."""
        if not self._by_machine and not self._unseen:
            return ()
        here, machines = state.machine.name.casefold(), self._machines_by_part
        others = {name for part in state.parts if part in machines for name in machines[part] if name != here}
        if not others and here not in self._unseen:
            return self._by_machine.get(here, ())
        return [
            lease
            for machine in (here, *others)
            for held in (self._by_machine, self._unseen)
            for lease in held.get(machine, ())
        ]

    def memory_left(self, state: MachineState, leases: Sequence[Lease]) -> Memory:
        """The memory of a machine less what owners reserve and what `leases` promise."""
        reserved = self._fleet.reserved_bytes
        if not leases and not reserved:
            return state.memory
        promised, is_unmeasured = self._promised_bytes(state, leases), bool(state.unmeasured_gpus)
        return Memory(state.ollama_host, promised, reserved, has_unmeasured_gpus=is_unmeasured)

    def _part(self, lease: Lease, of: str) -> str:
        """What a share belongs to: a GPU, or for RAM the sidecar that measures it."""
        state = self._fleet.state_of(lease.machine) if of == RAM else None
        return state.machine.sidecar.url if state and state.machine.sidecar else of

    def _promised_bytes(self, state: MachineState, leases: Iterable[Lease]) -> Mapping[str, int]:
        """The bytes promised of each GPU, of this host's RAM, and of what this Ollama can evict."""
        total: Counter[str] = Counter()
        by_machine: dict[str, list[Lease]] = {}
        for lease in leases:
            by_machine.setdefault(lease.machine.casefold(), []).append(lease)
        sidecar = state.machine.sidecar
        evicted = []
        for machine, here in by_machine.items():
            other = self._fleet.state_of(machine)
            held_since = self._fleet.held_since_on(other) if other else {}
            reclaimed = 0
            for _, shares in promised_shares(here, other, held_since, state.sampled_at):
                for of, size_bytes, _ in shares:
                    if of == RECLAIMABLE:
                        reclaimed += size_bytes
                    elif of != RAM or (other and other.machine.sidecar == sidecar):
                        total[of] += size_bytes
            if other is state:
                total[RECLAIMABLE] = reclaimed
            if other and reclaimed:
                evicted.append((other, reclaimed - _evictable_bytes(other, here)))
        for other, size_bytes in evicted:
            _promise_evicted(total, other, size_bytes)
        return total


def _evictable_bytes(state: MachineState, leases: Sequence[Lease]) -> int:
    """The bytes of the loaded models without a lease."""
    evictable = (model for model in state.models if not is_leased(model, leases))
    has_gpus = bool(state.memory.gpus)
    return sum((model.size_vram_bytes if has_gpus else model.size_bytes) or 0 for model in evictable)


def _promise_evicted(total: Counter[str], state: MachineState, size_bytes: int) -> None:
    """Promise what was evicted for a lease, which is free until the lease's model is loaded."""
    gpus = state.memory.gpus
    if not gpus and size_bytes > 0:
        total[RAM] += size_bytes
    for gpu in sorted(gpus or (), key=lambda gpu: total[gpu.uuid] - gpu.free_bytes):
        part = min(size_bytes, gpu.free_bytes - total[gpu.uuid])
        if part > 0:
            total[gpu.uuid] += part
            size_bytes -= part
