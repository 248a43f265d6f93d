"""The catalogue of everything that is measured over time: one line a metric, in `core/sample.py`."""

from dataclasses import Field, dataclass
from typing import Any

from machines_server.core.sample import GIB, THOUSANDTHS, GpuSample, HostSample, metrics_of, public_name

_UNITS = {"bytes": "GiB"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its column in the database, its name and unit in the API."""

    column: str
    unit: str
    about: str
    is_gpu: bool = False
    one: int = THOUSANDTHS
    """How much is kept in the database for one unit of the API."""

    @property
    def name(self) -> str:
        """The name in the API."""
        return public_name(self.column)

    def public(self, kept: float) -> float:
        """A value as it is kept, in the unit of the API."""
        return round(kept / self.one, 4)


def _metric(field: Field[Any], *, is_gpu: bool) -> Metric:
    unit = field.metadata["unit"]
    one = GIB if unit == "bytes" else THOUSANDTHS
    return Metric(field.name, _UNITS.get(unit, unit), field.metadata["about"], is_gpu, one)


MACHINE_METRICS = (
    Metric("up", "1", "1 when an endpoint of the machine answered, 0 when none did", one=1),
    Metric("poll_s", "seconds", "how long the slowest poll of the machine lasted"),
    *(_metric(field, is_gpu=False) for field in metrics_of(HostSample)),
)
GPU_METRICS = tuple(_metric(field, is_gpu=True) for field in metrics_of(GpuSample))
METRICS = {metric.name: metric for metric in (*MACHINE_METRICS, *GPU_METRICS)}
