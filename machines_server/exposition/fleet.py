"""The fleet's series as text of version 0.0.4, written without prometheus_client.

Its collectors take 530 ms of CPU for the 31,000 series of 1,000 machines; this takes a twentieth of that.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

from machines_server.core.machine import Machine
from machines_server.core.model_names import spelled_as
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.question import text_of, values_at
from machines_server.core.sample import GpuSample, HostSample, LoadedModel
from machines_server.core.state import MachineState
from machines_server.core.status import Status
from machines_server.core.text import printable
from machines_server.exposition.families import (
    ALL,
    FILE_PROBLEMS,
    GPU,
    HOST,
    INFO,
    LOAD,
    MODEL_LOADED,
    MODEL_SIZE,
    MODEL_VRAM,
    READABLE,
    SAMPLE_AGE,
    STATUS,
    UP,
    Family,
)

_LIVE = (Status.ONLINE, Status.DEGRADED)
_STATUS_ENDS = {
    status: tuple(f',status="{one}"}} {int(one is status)}' for one in Status) for status in Status
}
"""The endings of the lines of the four statuses, by the current status."""

MAX_KEPT_GPUS = 64
"""The GPUs of a machine whose labels are kept."""

Lines = Mapping[str, list[str]]
"""The lines of each family, by its name; an entry may hold several."""


class FleetLines:
    """Writes the series of machines, and keeps what does not change from poll to poll; for one thread."""

    def __init__(self) -> None:
        self._texts: dict[Machine, _Texts] = {}

    def write(self, fleet: Fleet, problems: Mapping[str, int]) -> Lines:
        """The series of all machines except their ages, and how many problems their files have."""
        known, self._texts = self._texts, {}
        writer = _Writer()
        for live in fleet.states:
            texts = known.get(live.machine) or _Texts(live.machine)
            self._texts[live.machine] = texts
            writer.add(live, texts, fleet.held_since_on(live))
        lines = writer.lines()
        lines[FILE_PROBLEMS.name] = [
            f'{FILE_PROBLEMS.name}{{severity="{severity}"}} {number}' for severity, number in problems.items()
        ]
        return lines


def age_lines(fleet: Fleet, now: float) -> Iterator[str]:
    """The age of each machine's sample at `now` (epoch seconds)."""
    for live in fleet.states:
        if live.sampled_at is not None:
            age_s = max(now - live.sampled_at, 0.0)
            yield f'{SAMPLE_AGE.name}{{machine="{live.machine.name}"}} {age_s:.3f}'


def text_of_lines(lines: Lines) -> str:
    """The exposition of all families that have a series."""
    parts = list[str]()
    for family in ALL:
        if of_family := lines.get(family.name):
            parts += [f"# HELP {family.name} {family.about}", f"# TYPE {family.name} gauge", *of_family]
    return "\n".join([*parts, ""])


def label_value(text: str) -> str:
    """A text as the value of a label, between its quotes."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return printable(text).replace("\\", r"\\").replace('"', r"\"")


def tags_of(machine: Machine) -> str:
    """The tags of a machine's file with commas around each, as Prometheus writes lists; or nothing."""
    tags = [printable(text_of(tag)) for tag in values_at(machine.declared, "tags")]
    return f",{','.join(tags)}," if tags else ""


class _Texts:
    """What of the series of a machine rarely changes: it follows from its file, its GPUs and its models."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.labels = f'machine="{machine.name}"'
        """What begins the labels of all series."""
        role, tags = label_value(machine.role), label_value(tags_of(machine))
        self.info = f'{INFO.name}{{{self.labels},role="{role}",tags="{tags}"}} 1'
        self._statuses: dict[Status, str] = {}
        self._gpus: dict[tuple[int, str, str | None], tuple[str, str]] = {}
        self._models: _ModelLines | None = None

    def status(self, status: Status) -> str:
        """The lines of the four statuses."""
        text = self._statuses.get(status)
        if text is None:
            start = f"{STATUS.name}{{{self.labels}"
            text = self._statuses[status] = "\n".join(start + end for end in _STATUS_ENDS[status])
        return text

    def gpu(self, gpu: GpuSample) -> tuple[str, str]:
        """The line that says that a GPU could be read, and the labels of its other series."""
        key = gpu.index, gpu.uuid, gpu.model
        texts = self._gpus.get(key)
        if texts is None:
            of_gpu = f'{self.labels},gpu="{gpu.index}",uuid="{label_value(gpu.uuid)}"'
            texts = f"{READABLE.name}{{{of_gpu}}} 1", f'{of_gpu},model="{label_value(gpu.model or "")}"'
            if len(self._gpus) >= MAX_KEPT_GPUS:  # a host may name others in each answer
                self._gpus.clear()
            self._gpus[key] = texts
        return texts

    def models(self, models: Sequence[LoadedModel], held_since: Mapping[str, float]) -> "_ModelLines":
        """The lines of the models in memory, which are there since those times."""
        if self._models is None or self._models.models != models or self._models.held_since != held_since:
            self._models = _ModelLines(self._machine, self.labels, models, held_since)
        return self._models


class _ModelLines:
    """The lines of the models in memory; of several with one name the sum, and the time of the latest."""

    def __init__(
        self,
        machine: Machine,
        of_machine: str,
        models: Sequence[LoadedModel],
        held_since: Mapping[str, float],
    ) -> None:
        self.models, self.held_since = models, held_since
        self.sizes, self.vram, self.loaded = list[str](), list[str](), list[str]()
        by_name = dict[str, list[LoadedModel]]()
        for model in models:
            by_name.setdefault(spelled_as(model.model, machine.models), []).append(model)
        for name, of_name in by_name.items():
            labels = f'{of_machine},model="{label_value(name)}"'
            self.sizes += _sum_line(MODEL_SIZE, labels, [model.size_bytes for model in of_name])
            self.vram += _sum_line(MODEL_VRAM, labels, [model.size_vram_bytes for model in of_name])
            since = [held_since[model.model] for model in of_name if model.model in held_since]
            if since:
                self.loaded.append(f"{MODEL_LOADED.name}{{{labels}}} {max(since):.3f}")


def _sum_line(family: Family, labels: str, sizes: Sequence[int | None]) -> Iterator[str]:
    """The line with a sum, if that is known."""
    known = [size for size in sizes if size is not None]
    if len(known) == len(sizes):
        yield f"{family.name}{{{labels}}} {sum(known)}"


class _Samples:
    """The samples of one kind, written family by family: for 31,000 lines, anything else is too slow."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families
        self._values = attrgetter(*(family.attribute for family in families))
        self._labels, self._rows = list[str](), list[Sequence[int | float | None]]()

    def add(self, sample: HostSample | GpuSample, labels: str) -> None:
        """Add a sample; `labels` is the text between the braces."""
        self._labels.append(labels)
        self._rows.append(self._values(sample))

    def write(self, lines: dict[str, list[str]]) -> None:
        """Write the values that are known."""
        labels = self._labels
        for (name, _, _, divisor), values in zip(self._families, zip(*self._rows, strict=True), strict=False):
            found = zip(labels, values, strict=True)
            if divisor == 1:
                lines[name] = [f"{name}{{{one}}} {value}" for one, value in found if value is not None]
            else:
                lines[name] = [
                    f"{name}{{{one}}} {value / divisor:.12g}" for one, value in found if value is not None
                ]


class _Writer:
    """Writes the series of machines."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {family.name: [] for family in ALL}
        self._hosts, self._gpus = _Samples(HOST), _Samples(GPU)
        self._up, self._info = self._lines[UP.name], self._lines[INFO.name]
        self._status, self._load = self._lines[STATUS.name], self._lines[LOAD.name]
        self._readable, self._sizes = self._lines[READABLE.name], self._lines[MODEL_SIZE.name]
        self._vram, self._loaded = self._lines[MODEL_VRAM.name], self._lines[MODEL_LOADED.name]

    def lines(self) -> dict[str, list[str]]:
        """The lines of all machines that were added."""
        self._hosts.write(self._lines)
        self._gpus.write(self._lines)
        return self._lines

    def add(self, live: MachineState, texts: _Texts, held_since: Mapping[str, float]) -> None:
        """Add a machine, whose models are in memory since those times."""
        status = live.verdict.status
        self._status.append(texts.status(status))
        self._info.append(texts.info)
        if status is not Status.UNKNOWN:
            self._up.append(f"{UP.name}{{{texts.labels}}} {int(status in _LIVE)}")
        # Only a machine whose sidecar has just answered is online, unless it has none.
        if status is Status.ONLINE and live.host is not None:
            self._add_host(live.host, texts)
        if status in _LIVE and live.models:
            models = texts.models(live.models, held_since)
            self._sizes += models.sizes
            self._vram += models.vram
            self._loaded += models.loaded

    def _add_host(self, host: HostSample, texts: _Texts) -> None:
        labels = texts.labels
        self._hosts.add(host, labels)
        for period, load in (("1m", host.load_1m), ("5m", host.load_5m), ("15m", host.load_15m)):
            if load is not None:
                self._load.append(f'{LOAD.name}{{{labels},period="{period}"}} {load}')
        for gpu in host.gpu:
            readable, of_gpu = texts.gpu(gpu)
            self._readable.append(readable)
            self._gpus.add(gpu, of_gpu)
        if host.gpu_unreadable:
            unreadable = {
                f'gpu="{"" if gpu.index is None else gpu.index}",uuid="{label_value(gpu.uuid or "")}"'
                for gpu in host.gpu_unreadable
            }
            self._readable += [f"{READABLE.name}{{{labels},{of_gpu}}} 0" for of_gpu in sorted(unreadable)]
