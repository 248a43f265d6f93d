"""The names of the series of the history, and how their values are kept.

Names that `/metrics` also has, such as `machines_up` and `machines_ram_used_bytes`, mean the same there.
What is scraped has the labels `job` and `instance`, which these series never have.
"""

from machines_server.core.past.metrics import Metric
from machines_server.core.sample import THOUSANDTHS

GPU_INFO = "machines_gpu_info"
"""Always 1; its labels `index` and `model` tell which GPU a UUID is."""
VRAM_OF_MODEL = "machines_model_vram_bytes"

FIRST_STAMP_MS, END_OF_STAMPS_MS = 2**35, 2**42
"""From 1971 until 2109; in this range, timestamps have the same length in messages."""
STAMP_STEP_MS = 10


def series_name(metric: Metric) -> str:
    """The name of the series of a metric: its unit is that of its column."""
    return f"machines_{metric.column}"


def stored_per_value(metric: Metric) -> int:
    """The factor from a value of the series to the integer of a Fold."""
    return THOUSANDTHS if metric.stored_per_unit == THOUSANDTHS else 1


def stamp_ms(at: float) -> int:
    """The timestamp of a sample at `at` (epoch seconds): whole hundredths of a second, in milliseconds.

    So no sample lies in the last millisecond of a bucket, where queries end. It is rounded down, since
    otherwise a sample at the end of a bucket would fall into the next one.
    """
    return round(at * 1000) // STAMP_STEP_MS * STAMP_STEP_MS
