"""A writer on a machine with the tag `gpu`, and a reviewer on one with the tag `cpu`."""

import requests

from machines_client import Client

client = Client()


def work(holder: str, model: str, tag: str, prompt: str) -> str:
    """Lease a machine for one task, so that others can use it while the other agent works."""
    with client.lease(model, tag=tag, holder=holder, cold=True, wait_s=60) as lease:
        job = {"model": lease.model, "prompt": prompt, "stream": False}
        answer = requests.post(f"{lease.url}/api/generate", json=job, timeout=600)
        answer.raise_for_status()
        return answer.json()["response"]


text = "Why the sky is blue"
for _ in range(2):
    text = work("writer", "llama3.1:70b", "gpu", f"Write a paragraph about this:\n{text}")
    notes = work("reviewer", "phi3:mini", "cpu", f"Which sentence is the weakest, and why?\n{text}")
    text = f"{text}\n\nNotes of the reviewer: {notes}"
print(text)
