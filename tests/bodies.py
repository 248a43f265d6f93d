"""What sidecars and Ollamas answer, as bytes."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent / "fixtures"
GIB = 2**30


def gpu_body(index: int, *, used_gb: float, total_gb: float = 24, **changes: Any) -> dict[str, Any]:
    """One GPU as a sidecar reports it."""
    used, total = round(used_gb * GIB), round(total_gb * GIB)
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "model": "24GB consumer GPU",
        "memory_kind": "dedicated",
        "vram_total_bytes": total,
        "vram_used_bytes": used,
        "vram_free_bytes": total - used,
        "utilisation": 47,
        "temperature_c": 61,
        "power_w": 212.5,
    } | changes


def sidecar_body(*gpus: dict[str, Any], **changes: Any) -> bytes:
    """What a sidecar's /metrics answers, with `changes` at the top level."""
    body = {
        "version": 1,
        "hostname": "host",
        "sampled_at": "2026-11-23T17:00:00.123Z",
        "window_s": 1.0,
        "cpu_percent": 12.4,
        "load_avg": [1.1, 0.9, 0.7],
        "cpu_count": 32,
        "ram_total_bytes": 128 * GIB,
        "ram_used_bytes": 38 * GIB,
        "ram_available_bytes": 90 * GIB,
        "disk_total_bytes": 8000 * GIB,
        "disk_used_bytes": 10 * GIB,
        "disk_available_bytes": 7590 * GIB,
        "uptime_s": 12345,
        "gpu": list(gpus),
        "gpu_unreadable": [],
    }
    return json.dumps(body | changes).encode()


def ollama_body(*names: str, **changes: Any) -> bytes:
    """What an Ollama's /api/ps answers when it holds these models."""
    models = [
        {
            "name": name,
            "model": name,
            "size": 4 * GIB,
            "digest": f"{number:064x}"[::-1],
            "expires_at": "2318-12-04T10:11:12.123456789Z",
            "size_vram": 4 * GIB,
            "context_length": 4096,
        }
        | changes
        for number, name in enumerate(names, 1)
    ]
    return json.dumps({"models": models}).encode()


def tags_body(*models: tuple[str, str, int]) -> bytes:
    """What an Ollama's /api/tags answers with these models on disk: name, digest, bytes."""
    return json.dumps(
        {
            "models": [
                {
                    "name": name,
                    "model": name,
                    "modified_at": "2026-11-23T17:00:00.123456789+01:00",
                    "size": size,
                    "digest": digest,
                    "details": {"format": "gguf", "quantization_level": "Q4_K_M"},
                }
                for name, digest, size in models
            ]
        }
    ).encode()


def sha(text: str) -> str:
    """A digest as Ollama tells it, of any text."""
    return sha256(text.encode()).hexdigest()


def http(body: bytes, status: str = "200 OK") -> bytes:
    """A whole HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
