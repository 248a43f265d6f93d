"""What the server answers about routing and leases."""

from dataclasses import dataclass, field

from machines_client.decoding import Answer, keyed
from machines_client.errors import Rejection


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine to send requests to.

    `model` is what its model server calls the model, and `warm` says whether that is in memory; both are None
    if no model was asked for. `credential` names what requests to `url` need, None if nothing: send the token
    or the password that you have under that name.
    """

    name: str
    hostname: str = field(repr=False)
    port: int = field(repr=False)
    url: str
    model: str | None
    warm: bool | None
    credential: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Candidate(Answer, Machine):
    """A machine that is fit. Sizes are in GiB, and None is unknown.

    `free_vram_gb` is what leases leave free on its best GPU. `sampled_at` (RFC 3339) is when its memory was
    measured. All from `fits` on is None or empty unless the machine must load the model: `load_s` is how many
    seconds that takes, and `evicts` names the models that would have to leave memory.
    """

    free_vram_gb: float | None
    leases: int
    warmth: str | None = None
    sampled_at: str | None = field(default=None, repr=False)
    reason: str = field(default="", repr=False)
    fits: str | None = field(default=None, repr=False)
    needs_gb: float | None = field(default=None, repr=False)
    needs_from: str | None = field(default=None, repr=False)
    reclaimable_vram_gb: float | None = field(default=None, repr=False)
    evicts: tuple[str, ...] = field(default=(), repr=False)
    load_s: float | None = field(default=None, repr=False)
    load_from: str | None = field(default=None, repr=False)
    load_uncertainty_s: float | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Pick(Answer, Machine):
    """The machine to use, all candidates, best first, and why the other machines are not fit."""

    name: str = keyed("machine")
    candidates: tuple[Candidate, ...] = field(repr=False)
    rejected: tuple[Rejection, ...] = field(default=(), repr=False)

    @property
    def machine(self) -> str:
        """The name of the machine, as the JSON calls it."""
        return self.name

    @property
    def load_s(self) -> float | None:
        """How many seconds loading the model takes; None if it is in memory, or unknown."""
        return next((one.load_s for one in self.candidates if one.name == self.name), None)


@dataclass(frozen=True, kw_only=True)
class PromisedGpu(Answer):
    """GiB of one GPU that a lease promises; `index` is None while no sidecar shows the GPU."""

    uuid: str
    index: int | None
    vram_gb: float


@dataclass(frozen=True, kw_only=True)
class HeldLease(Answer):
    """A lease as the server has it.

    `model` is the name to send to the machine's model server, `warm` whether that was in memory when the
    lease was granted, and `credential` names what requests to `url` need, None if nothing. `gpus` and
    `ram_gb` are what the lease promises at present, in GiB. `broken` says why the machine can no longer be
    used, else it is None. `agent` signed the request for it, if somebody did.
    """

    lease: str
    machine: str
    hostname: str = field(repr=False)
    port: int = field(repr=False)
    url: str
    model: str
    warm: bool = field(repr=False)
    credential: str | None = field(default=None, repr=False)
    holder: str
    ttl_s: float
    expires_at: str
    created_at: str = field(default="", repr=False)
    agent: str | None = field(default=None, repr=False)
    exclusive: bool = False
    gpus: tuple[PromisedGpu, ...] = ()
    ram_gb: float | None = field(default=None, repr=False)
    reclaimable_gb: float | None = field(default=None, repr=False)
    broken: str | None = None


@dataclass(frozen=True, kw_only=True)
class GrantedLease(HeldLease):
    """A new lease, with the advice behind it; both are empty if the request repeated an earlier one."""

    candidates: tuple[Candidate, ...] = field(default=(), repr=False)
    rejected: tuple[Rejection, ...] = field(default=(), repr=False)

    @property
    def load_s(self) -> float | None:
        """How many seconds loading the model takes; None if it is in memory, or unknown."""
        return next((one.load_s for one in self.candidates if one.name == self.machine), None)


@dataclass(frozen=True, kw_only=True)
class Leases(Answer):
    """All leases in force, sorted by expiry.

    `expired_10m` is how many expired in the last ten minutes without being released.
    """

    leases: tuple[HeldLease, ...]
    total: int = 0
    expired_10m: int = field(default=0, repr=False)
