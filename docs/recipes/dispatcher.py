"""Do many jobs: where their model is in memory, or else load the model with the most jobs left."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import requests

from machines_client import Client, NoMachine

jobs = {model: [f"Write page {n}." for n in range(1, 5)] for model in ("llama3.1:70b", "phi3:mini")}


def work(_: int) -> None:
    while left := sorted(filter(jobs.get, jobs), key=lambda model: -len(jobs[model])):
        for model, wait_s in [*((one, 0) for one in left), (left[0], 3600)]:
            with suppress(NoMachine), Client().lease(model, cold=wait_s > 0, wait_s=wait_s) as host:
                with suppress(IndexError):  # another worker may have taken the last one
                    job = {"model": host.model, "prompt": jobs[model].pop(), "stream": False}
                    print(requests.post(f"{host.url}/api/generate", json=job, timeout=600).json()["response"])
                break
        else:
            raise SystemExit(f"no machine can load {left[0]}")


list(ThreadPoolExecutor(8).map(work, range(8)))
