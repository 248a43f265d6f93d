"""Selects the GPUs of a host that its model server uses, if the machine's file names them."""

from dataclasses import replace

from machines_server.core.machine import Machine
from machines_server.core.sample import GpuUnreadable, HostSample

NOT_SHOWN = "its sidecar reports no such GPU"


def used_by(machine: Machine, host: HostSample) -> HostSample:
    """The sample with only the cards that the machine's model server uses; a missing one is unreadable."""
    if machine.gpus is None:
        return host
    wanted = {_key(card): card for card in machine.gpus}
    gpu = tuple(card for card in host.gpu if not wanted.keys().isdisjoint(_keys(card.index, card.uuid)))
    unreadable = [
        card for card in host.gpu_unreadable if not wanted.keys().isdisjoint(_keys(card.index, card.uuid))
    ]
    shown = {key for card in gpu for key in _keys(card.index, card.uuid)}
    shown |= {key for card in unreadable for key in _keys(card.index, card.uuid)}
    for key, card in wanted.items():
        if key not in shown:
            index, uuid = (card, None) if isinstance(card, int) else (None, card)
            unreadable.append(GpuUnreadable(index, uuid, NOT_SHOWN))
    return replace(host, gpu=gpu, gpu_unreadable=tuple(unreadable))


def _keys(index: int | None, uuid: str | None) -> tuple[int | str, ...]:
    return tuple(_key(one) for one in (index, uuid) if one is not None)


def _key(card: int | str) -> int | str:
    """The index or UUID of a card in the form that is compared: UUIDs without case."""
    return card.casefold() if isinstance(card, str) else card
