"""The GPUs of this host through NVML; only the process that watches the driver calls this."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import psutil
import pynvml

from sidecar.host import FAILURES
from sidecar.payload import Gpu, UnreadableGpu

# What starting NVML again does not cure.
LASTING = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
}
# How a driver says that it does not know a call, or not in this version.
NO_SUCH_CALL = (
    pynvml.NVMLError_FunctionNotFound,
    pynvml.NVMLError_NotSupported,
    pynvml.NVMLError_ArgumentVersionMismatch,
)


class UnreadableError(Exception):
    """A device answers, but does not tell what must be known of it."""


class Memory(NamedTuple):
    """A device's memory in bytes."""

    total: int
    used: int
    free: int


@dataclass(frozen=True, slots=True)
class Device:
    """A card or a MIG device as NVML hands it out, or what went wrong when it was asked for."""

    handle: Any = None
    uuid: str | None = None
    is_mig: bool = False
    failure: Exception | None = None


@dataclass(slots=True)
class Reading:
    """All devices at one moment; `lost` when one of them needs NVML to be started again."""

    gpu: list[Gpu] = field(default_factory=list)
    gpu_unreadable: list[UnreadableGpu] = field(default_factory=list)
    lost: bool = False

    def add(self, device: Device, index: int) -> None:
        """Read one device and put it where it belongs."""
        try:
            self.gpu.append(_read(device, index))
        except UnreadableError as error:
            self.refuse(device, index, str(error))
        except pynvml.NVMLError as error:
            self.lost |= error.value not in LASTING
            self.refuse(device, index, f"NVML: {error}")

    def refuse(self, device: Device, index: int | None, reason: str) -> None:
        """Put one device among the unreadable."""
        self.gpu_unreadable.append({"index": index, "uuid": device.uuid, "reason": reason})


class Cards:
    """The cards of this host; `uuids` remembers them in the driver's order, then those it no longer lists."""

    def __init__(self, uuids: Iterable[str | None] = ()) -> None:
        self.uuids = list(uuids)

    def read(self) -> Reading:
        """Every card, or the MIG devices of one that is split; NVMLError when it cannot even count them."""
        cards = [_card(number) for number in range(pynvml.nvmlDeviceGetCount())]
        gone = self._recognise(cards)
        devices = [device for card in cards for device in _split(card)]
        reading = Reading(lost=bool(gone))
        for index, device in enumerate(devices):
            reading.add(device, index)
        for uuid in gone:
            reading.refuse(Device(uuid=uuid), None, "the NVIDIA driver no longer lists this GPU")
        return reading

    def _recognise(self, cards: list[Device]) -> list[str]:
        """Give lost cards the UUID that was read in their place before; returns those that are missing."""
        present = {card.uuid for card in cards}
        for number, card in enumerate(cards):
            before = self.uuids[number] if number < len(self.uuids) else None
            if card.uuid is None and before not in present:
                cards[number] = replace(card, uuid=before)
        now = [card.uuid for card in cards]
        gone = [uuid for uuid in self.uuids if uuid and uuid not in now]
        self.uuids = [*now, *gone]
        return gone


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
    """The MIG devices of a card on which MIG is on, else the card."""
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
    except NO_SUCH_CALL:
        return False
    return bool(mode == pynvml.NVML_DEVICE_MIG_ENABLE)


def _mig_handles(handle: Any) -> Iterable[Any]:
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except pynvml.NVMLError_NotFound:
            continue


def _read(device: Device, index: int) -> Gpu:
    if device.failure or device.uuid is None:
        raise device.failure or UnreadableError("the NVIDIA driver does not tell its UUID")
    handle = device.handle
    dedicated = _dedicated_memory(handle)
    if dedicated is None and device.is_mig:
        raise UnreadableError("the NVIDIA driver does not tell the memory of this MIG device")
    memory = dedicated or _unified_memory(handle)
    name = _optional(pynvml.nvmlDeviceGetName, handle)
    utilisation = _optional(pynvml.nvmlDeviceGetUtilizationRates, handle)
    power_mw = _optional(pynvml.nvmlDeviceGetPowerUsage, handle)
    return {
        "index": index,
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
    """A device's own memory; None when it has none, which NVML tells by "not supported" or by zeros.

    Version 1 counts what the driver keeps for itself as used, so version 2 is asked for first.
    """
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except NO_SUCH_CALL:
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        except pynvml.NVMLError_NotSupported:
            return None
    return Memory(memory.total, memory.used, memory.free) if memory.total else None


def _unified_memory(handle: Any) -> Memory:
    """The system's memory, which CPU and GPU share: used is what the processes on the GPU hold."""
    used_by_pid: dict[int, int] = {}
    try:
        processes = [
            *pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle),
            *pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3(handle),
        ]
    except NO_SUCH_CALL as error:
        raise UnreadableError(f"unified memory, and its processes are not told (NVML: {error})") from error
    for process in processes:
        if process.usedGpuMemory is None:
            raise UnreadableError(f"unified memory, and what process {process.pid} uses is not told")
        used_by_pid[process.pid] = max(process.usedGpuMemory, used_by_pid.get(process.pid, 0))
    try:
        system = psutil.virtual_memory()
    except FAILURES as error:
        raise UnreadableError(f"unified memory, and the system's cannot be read ({error})") from error
    used = sum(used_by_pid.values())
    return Memory(system.total, used, max(0, min(system.total - used, system.available)))


def _temperature(handle: Any) -> int:
    try:
        degrees: int = pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU)
    except NO_SUCH_CALL:
        degrees = pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
    return degrees


def _optional(read: Callable[[Any], Any], handle: Any) -> Any:
    try:
        return read(handle)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
