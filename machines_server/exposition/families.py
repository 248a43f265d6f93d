"""The catalogue of the fleet's metrics: names, units and what they mean."""

from collections.abc import Sequence
from typing import NamedTuple


class Family(NamedTuple):
    """A gauge: its name, what it means, and the attribute of a sample that has it, in units of `divisor`."""

    name: str
    about: str
    attribute: str = ""
    divisor: int = 1


HOST: Sequence[Family] = (
    Family("machines_cpu_usage_ratio", "Share of CPU time that was not idle.", "cpu_percent", 100),
    Family("machines_ram_total_bytes", "Memory of the host.", "ram_total_bytes"),
    Family("machines_ram_used_bytes", "Memory in use.", "ram_used_bytes"),
    Family("machines_ram_available_bytes", "Memory available to new work.", "ram_available_bytes"),
    Family("machines_disk_total_bytes", "Size of the file system of the host's data.", "disk_total_bytes"),
    Family("machines_disk_used_bytes", "Used space of the file system.", "disk_used_bytes"),
    Family("machines_disk_available_bytes", "Space that a user can still write.", "disk_available_bytes"),
    Family("machines_uptime_seconds", "Time since the host was started.", "uptime_s"),
)
"""Labels: machine."""
GPU: Sequence[Family] = (
    Family("machines_gpu_memory_total_bytes", "Memory of the GPU.", "vram_total_bytes"),
    Family("machines_gpu_memory_used_bytes", "Memory of the GPU in use.", "vram_used_bytes"),
    Family("machines_gpu_memory_free_bytes", "Free memory of the GPU.", "vram_free_bytes"),
    Family("machines_gpu_utilisation_ratio", "Share of time in which the GPU was busy.", "utilisation", 100),
    Family("machines_gpu_temperature_celsius", "Temperature of the GPU.", "temperature_c"),
    Family("machines_gpu_power_watts", "Power that the GPU draws.", "power_w"),
)
"""Labels: machine, gpu (the index), uuid, model."""

UP = Family("machines_up", "Whether any endpoint of the machine answers: 1 or 0; absent if unknown.")
STATUS = Family("machines_status", "The status of the machine: 1 for the current one, 0 for the others.")
INFO = Family("machines_info", "What the machine's file says: role, and tags with commas around each.")
SAMPLE_AGE = Family("machines_sample_age_seconds", "Time since the latest sample of the host was received.")
LOAD = Family("machines_load_average", "Processes that run or wait to run, over 1m, 5m and 15m.")
READABLE = Family("machines_gpu_readable", "Whether the GPU could be read: 1 or 0.")
MODEL_SIZE = Family("machines_model_size_bytes", "Memory that the loaded model takes.")
MODEL_VRAM = Family("machines_model_vram_bytes", "The part of it that is GPU memory.")
MODEL_LOADED = Family(
    "machines_model_loaded_timestamp_seconds",
    "Unix time when the model in memory was first seen there; it changes when the model is loaded again.",
)
FILE_PROBLEMS = Family("machines_file_problems", "Problems of the machine files, by severity.")
ALL: Sequence[Family] = (
    *(UP, STATUS, INFO, SAMPLE_AGE, *HOST, LOAD, *GPU, READABLE),
    *(MODEL_SIZE, MODEL_VRAM, MODEL_LOADED, FILE_PROBLEMS),
)
"""In the order in which they are shown."""
