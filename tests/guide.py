"""How a router that somebody else wrote reads the answers."""

import requests


def route(url: str, model: str) -> tuple[str, str]:
    """A router as people write it: the most free VRAM among the online machines that hold the model."""
    candidates = []
    for machine in requests.get(f"{url}/api/infrastructure", timeout=10).json()["machines"]:
        if machine["status"] != "online" or model not in machine.get("loaded_models", []):
            continue
        gpus = machine.get("telemetry", {}).get("gpu", [])
        free = max((gpu["vram_free_gb"] for gpu in gpus), default=0)
        candidates.append((free, machine["name"], machine["network"]["hostname"]))
    if not candidates:
        raise RuntimeError(model)
    _, name, hostname = max(candidates)
    return name, hostname
