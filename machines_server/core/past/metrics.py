"""The catalogue of metrics, made from the fields of the samples in `core/sample.py`."""

from dataclasses import Field, dataclass
from typing import Any

from machines_server.core.sample import GIB, THOUSANDTHS, GpuSample, HostSample, metrics_of, public_name

_API_UNITS = {"bytes": "GiB"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its column in the database, and its name, unit and description in the API."""

    column: str
    unit: str
    about: str
    is_gpu: bool = False
    stored_per_unit: int = THOUSANDTHS
    """The stored value that is 1 in the API's unit."""

    @property
    def name(self) -> str:
        """The name in the API."""
        return public_name(self.column)

    def public(self, stored: float) -> float:
        """A stored value in the API's unit, rounded to four decimals."""
        return round(stored / self.stored_per_unit, 4)


def _metric(field: Field[Any], *, is_gpu: bool) -> Metric:
    unit = field.metadata["unit"]
    stored_per_unit = GIB if unit == "bytes" else THOUSANDTHS
    return Metric(field.name, _API_UNITS.get(unit, unit), field.metadata["about"], is_gpu, stored_per_unit)


MACHINE_METRICS = (
    Metric("up", "1", "1 when an endpoint of the machine answered, 0 when none did", stored_per_unit=1),
    Metric("poll_s", "seconds", "how long the slowest poll of the machine took"),
    *(_metric(field, is_gpu=False) for field in metrics_of(HostSample)),
)
GPU_METRICS = tuple(_metric(field, is_gpu=True) for field in metrics_of(GpuSample))
METRICS = {metric.name: metric for metric in (*MACHINE_METRICS, *GPU_METRICS)}
