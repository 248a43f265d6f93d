"""Reads the GPUs of this host through NVML; used only in the child process that calls the driver."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pynvml

from host_facts.facts import Facts
from sidecar.payload import Gpu, UnreadableGpu
from sidecar.repeated_call import RepeatedCall

# Errors that restarting NVML does not fix.
PERSISTENT_ERRORS = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
}
# How long to wait for a card before the next one is read; the shorter time applies once a card is late.
READ_TIMEOUT_S, SHORT_READ_TIMEOUT_S = 0.5, 0.1
# What a driver raises for a call, or a version of a call, that it does not support.
UNSUPPORTED_ERRORS = (
    pynvml.NVMLError_FunctionNotFound,
    pynvml.NVMLError_NotSupported,
    pynvml.NVMLError_ArgumentVersionMismatch,
)


class UnreadableError(Exception):
    """A device answers, but does not report what is required."""


class Memory(NamedTuple):
    """A device's memory in bytes."""

    total: int
    used: int
    free: int


@dataclass(frozen=True, slots=True)
class Device:
    """A card or MIG device as NVML returns it, or what went wrong."""

    handle: Any = None
    uuid: str | None = None
    is_mig: bool = False
    failure: Exception | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One card or MIG device: its reading, or the reason why there is none."""

    uuid: str | None = None
    gpu: Gpu | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One card with all its devices at one moment; `lost` if NVML has to be restarted for it."""

    uuid: str | None
    parts: Sequence[Part]
    lost: bool = False

    def unreadable(self, reason: str) -> "Card":
        """The same card with all devices unreadable for a reason."""
        return Card(self.uuid, [Part(part.uuid, reason=reason) for part in self.parts])


UNKNOWN_CARD = Card(None, [Part()])


@dataclass(slots=True)
class Reading:
    """All devices at one moment; `lost` if NVML has to be restarted, `is_new` if any card has answered."""

    gpu: list[Gpu] = field(default_factory=list)
    gpu_unreadable: list[UnreadableGpu] = field(default_factory=list)
    lost: bool = False
    is_new: bool = True

    def add(self, part: Part, index: int | None) -> None:
        """Add one device to the readable or the unreadable ones."""
        if part.gpu is not None and index is not None:
            self.gpu.append({**part.gpu, "index": index})
        else:
            self.gpu_unreadable.append({"index": index, "uuid": part.uuid, "reason": part.reason})


class Cards:
    """The cards of this host; `uuids` has them in the driver's order, then those it no longer lists."""

    def __init__(
        self,
        uuids: Iterable[str | None] = (),
        keep_s: float = 3.0,
        skipped: Mapping[int, float] | None = None,
    ) -> None:
        """Answers older than `keep_s` are not shown.

        `skipped` has, by number, cards that are not to be read for so many seconds from now.
        """
        self.uuids = list(uuids)
        self.late: list[int] = []
        """The numbers of the cards that do not answer, in the order in which they stopped."""
        self._keep_s = keep_s
        self._skipped_until = {number: time.monotonic() + s for number, s in (skipped or {}).items()}
        self._turns: dict[int, RepeatedCall[Card]] = {}

    @property
    def skipped(self) -> list[int]:
        """The numbers of the cards that are not read now."""
        return [number for number, turn in self._turns.items() if turn.is_skipped]

    @property
    def overdue_s(self) -> float:
        """How long the most overdue answer has been due."""
        return max((self._turns[number].overdue_s for number in self.late), default=0.0)

    def read(self) -> Reading:
        """Read every card or its MIG devices; raises NVMLError if the cards cannot even be counted."""
        numbers = range(pynvml.nvmlDeviceGetCount())
        is_new = [self._ask(number) for number in numbers]
        cards = [self._latest(number) for number in numbers]
        missing = self._restore_uuids(cards)
        reading = Reading(
            lost=bool(missing) or any(card.lost for card in cards), is_new=any(is_new) or not cards
        )
        for index, part in enumerate(part for card in cards for part in card.parts):
            reading.add(part, index)
        for uuid in missing:
            reading.add(Part(uuid, reason="the NVIDIA driver no longer lists this GPU"), None)
        return reading

    def _ask(self, number: int) -> bool:
        """Read a card; returns whether it answered. One at a time, so that the first late one is to blame."""
        if number not in self._turns:
            not_before = self._skipped_until.get(number, float("-inf"))
            self._turns[number] = RepeatedCall(lambda: read_card(number), not_before)
        turn = self._turns[number]
        has_answered = turn.ask(SHORT_READ_TIMEOUT_S if self.late else READ_TIMEOUT_S)
        if has_answered and number in self.late:
            self.late.remove(number)
        elif not has_answered and number not in self.late and not turn.is_skipped:
            self.late.append(number)
        return has_answered

    def _latest(self, number: int) -> Card:
        turn = self._turns[number]
        known = turn.answer or UNKNOWN_CARD
        if turn.age_s <= self._keep_s:
            return known
        if turn.is_skipped:
            return known.unreadable(
                "the NVIDIA driver hung on this GPU, which is skipped so that the others can be read"
            )
        silent_s = READ_TIMEOUT_S if turn.answer is None and turn.overdue_s <= self._keep_s else self._keep_s
        return known.unreadable(f"the NVIDIA driver has not answered for over {silent_s:g} s")

    def _restore_uuids(self, cards: list[Card]) -> list[str]:
        """Give cards without a UUID the one last read at their position; returns the missing UUIDs."""
        present = {card.uuid for card in cards}
        for number, card in enumerate(cards):
            before = self.uuids[number] if number < len(self.uuids) else None
            if card.uuid is None and before not in present:
                cards[number] = Card(before, [replace(part, uuid=before) for part in card.parts], card.lost)
        now = [card.uuid for card in cards]
        missing = [uuid for uuid in self.uuids if uuid and uuid not in now]
        self.uuids = [*now, *missing]
        return missing


def read_card(number: int) -> Card:
    """Read one card, whatever NVML raises; only a hanging call is not handled."""
    card = _card(number)
    devices = _split(card)
    parts, lost = [], False
    for device in devices:
        try:
            parts.append(Part(device.uuid, _read(device)))
        except UnreadableError as error:
            parts.append(Part(device.uuid, reason=str(error)))
        except pynvml.NVMLError as error:
            lost |= error.value not in PERSISTENT_ERRORS
            parts.append(Part(device.uuid, reason=f"NVML: {error}"))
        except Exception as error:  # noqa: BLE001 - an unexpected error must cost only this card
            lost = True
            parts.append(Part(device.uuid, reason=f"{type(error).__name__}: {error}"))
    return Card(card.uuid, parts, lost)


def _card(number: int) -> Device:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
    except pynvml.NVMLError as error:
        return Device(failure=error)
    return _device(handle)


def _device(handle: Any, *, is_mig: bool = False) -> Device:
    try:
        return Device(handle, _text(pynvml.nvmlDeviceGetUUID(handle)), is_mig)
    except pynvml.NVMLError as error:
        return Device(failure=error)


def _split(card: Device) -> list[Device]:
    """The MIG devices of a card in MIG mode, or else the card itself."""
    if card.failure:
        return [card]
    try:
        if not _mig_is_on(card.handle):
            return [card]
        devices = [_device(handle, is_mig=True) for handle in _mig_handles(card.handle)]
    except pynvml.NVMLError as error:
        return [replace(card, failure=error)]
    return devices or [replace(card, failure=UnreadableError("MIG is on, but there are no MIG instances"))]


def _mig_is_on(handle: Any) -> bool:
    try:
        mode, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except UNSUPPORTED_ERRORS:
        return False
    return bool(mode == pynvml.NVML_DEVICE_MIG_ENABLE)


def _mig_handles(handle: Any) -> Iterable[Any]:
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except pynvml.NVMLError_NotFound:
            continue


def _read(device: Device) -> Gpu:
    """Read one device; the caller sets the index."""
    if device.failure or device.uuid is None:
        raise device.failure or UnreadableError("the NVIDIA driver does not report its UUID")
    handle = device.handle
    dedicated = _dedicated_memory(handle)
    if dedicated is None and device.is_mig:
        raise UnreadableError("the NVIDIA driver does not report the memory of this MIG device")
    memory = dedicated or _unified_memory(handle)
    name = _optional(pynvml.nvmlDeviceGetName, handle)
    utilisation = _optional(pynvml.nvmlDeviceGetUtilizationRates, handle)
    power_mw = _optional(pynvml.nvmlDeviceGetPowerUsage, handle)
    return {
        "index": 0,
        "uuid": device.uuid,
        "model": None if name is None else _text(name),
        "memory_kind": "dedicated" if dedicated else "unified",
        "vram_total_bytes": memory.total,
        "vram_used_bytes": memory.used,
        "vram_free_bytes": memory.free,
        "utilisation": None if utilisation is None else utilisation.gpu,
        "temperature_c": _optional(_temperature, handle),
        "power_w": None if power_mw is None else power_mw / 1000,
    }


def _dedicated_memory(handle: Any) -> Memory | None:
    """A device's own memory; None if it has none, which NVML reports as "not supported" or as zeros.

    Version 1 counts what the driver reserves as used, so version 2 is tried first. Whatever error that gives,
    version 1 may work: WSL2 answers version 2 with Unknown Error.
    """
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError as error:
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        except pynvml.NVMLError as other:
            if not isinstance(error, UNSUPPORTED_ERRORS):
                raise error from other
            if isinstance(other, pynvml.NVMLError_NotSupported):
                return None
            raise
    return Memory(memory.total, memory.used, memory.free) if memory.total else None


def _unified_memory(handle: Any) -> Memory:
    """The system's memory, shared by CPU and GPU; `used` is what the processes on the GPU hold."""
    used_by_pid: dict[int, int] = {}
    try:
        processes = [
            *pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle),
            *pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3(handle),
        ]
    except UNSUPPORTED_ERRORS as error:
        raise UnreadableError(f"unified memory, and its processes are unknown (NVML: {error})") from error
    for process in processes:
        if process.usedGpuMemory is None:
            raise UnreadableError(f"unified memory, and what process {process.pid} uses is unknown")
        used_by_pid[process.pid] = max(process.usedGpuMemory, used_by_pid.get(process.pid, 0))
    try:
        system = Facts().memory()
    except Exception as error:
        raise UnreadableError(f"unified memory, and the system's cannot be read ({error})") from error
    used = sum(used_by_pid.values())
    return Memory(system.total, used, max(0, min(system.total - used, system.available)))


def _temperature(handle: Any) -> int:
    try:
        degrees: int = pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU)
    except UNSUPPORTED_ERRORS:
        degrees = pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
    return degrees


def _optional(read: Callable[[Any], Any], handle: Any) -> Any:
    try:
        return read(handle)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
