"""One sample as Prometheus text; imported at the first text scrape, since prometheus_client takes 11 MiB."""

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sidecar import __version__
from sidecar.payload import Gpu, Sample

METRIC_PREFIX = "machines_sidecar_"

# (metric name, key in the sample, divisor to get the base unit, help text)
HOST_FAMILIES = (
    ("cpu_usage_ratio", "cpu_percent", 100, "Share of CPU time that was not idle, over the window."),
    ("cpu_window_seconds", "window_s", 1, "Span over which the CPU usage was measured."),
    ("cpus", "cpu_count", 1, "Logical CPUs."),
    ("ram_total_bytes", "ram_total_bytes", 1, "Memory of the host."),
    ("ram_used_bytes", "ram_used_bytes", 1, "Memory in use."),
    ("ram_available_bytes", "ram_available_bytes", 1, "Memory available to programs without swapping."),
    ("disk_total_bytes", "disk_total_bytes", 1, "Size of the file system that holds the host's data."),
    ("disk_used_bytes", "disk_used_bytes", 1, "Used space of the file system."),
    ("disk_available_bytes", "disk_available_bytes", 1, "Space that a user can still write."),
    ("uptime_seconds", "uptime_s", 1, "Time since the host booted."),
)
GPU_FAMILIES = (
    ("gpu_memory_total_bytes", "vram_total_bytes", 1, "Memory of the GPU."),
    ("gpu_memory_used_bytes", "vram_used_bytes", 1, "Memory of the GPU in use."),
    ("gpu_memory_free_bytes", "vram_free_bytes", 1, "Free memory of the GPU."),
    ("gpu_utilisation_ratio", "utilisation", 100, "Share of time in which the GPU ran something."),
    ("gpu_temperature_celsius", "temperature_c", 1, "Temperature of the GPU."),
    ("gpu_power_watts", "power_w", 1, "Power that the GPU draws."),
)
GPU_LABELS = ("index", "uuid", "model")


def render(sample: Sample, accept: str) -> tuple[bytes, str]:
    """The text of `sample` in the version that the Accept header asks for, and its content type."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # it raises for a version that is not a number
        encode, content_type = choose_encoder("")
    return encode(_OneSample(sample)), content_type


class _OneSample(Collector):
    """Yields the metrics of one sample, without those that are None."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def collect(self) -> Iterator[Metric]:
        sample = self._sample
        info = InfoMetricFamily(f"{METRIC_PREFIX}build", "Version of the sidecar.")
        info.add_metric([], {"version": __version__})
        yield info
        values: dict[str, object] = {**sample}
        for name, key, units, text in HOST_FAMILIES:
            yield from _gauge(name, text, (), [((), values[key], units)])
        periods = zip(("1m", "5m", "15m"), sample["load_avg"] or (), strict=False)
        loads = [((period,), load, 1) for period, load in periods]
        yield from _gauge("load_average", "Processes that run or wait to run.", ("period",), loads)
        yield from self._gpus()

    def _gpus(self) -> Iterator[Metric]:
        gpus, unreadable = self._sample["gpu"], self._sample["gpu_unreadable"]
        states = [(_labels(gpu["index"], gpu["uuid"]), 1, 1) for gpu in gpus]
        states += [(_labels(gpu["index"], gpu["uuid"]), 0, 1) for gpu in unreadable]
        yield from _gauge("gpu_readable", "Whether the GPU can be read: 1 or 0.", GPU_LABELS[:2], states)
        kinds = [((*_gpu_labels(gpu), gpu["memory_kind"]), 1, 1) for gpu in gpus]
        help_kind = "Whether the GPU has memory of its own (dedicated) or shares the host's (unified)."
        yield from _gauge("gpu_info", help_kind, (*GPU_LABELS, "memory_kind"), kinds)
        for name, key, units, text in GPU_FAMILIES:
            rows = [(_gpu_labels(gpu), {**gpu}[key], units) for gpu in gpus]
            yield from _gauge(name, text, GPU_LABELS, rows)


def _labels(*values: object) -> tuple[str, ...]:
    return tuple("" if value is None else str(value) for value in values)


def _gpu_labels(gpu: Gpu) -> tuple[str, ...]:
    return _labels(gpu["index"], gpu["uuid"], gpu["model"])


def _gauge(
    name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], object, int]]
) -> Iterator[Metric]:
    """One metric family with the rows that have a value; nothing if no row has."""
    family = GaugeMetricFamily(METRIC_PREFIX + name, text, labels=labels)
    for label_values, value, units in rows:
        if isinstance(value, int | float):
            family.add_metric(label_values, value / units)
    if family.samples:
        yield family
