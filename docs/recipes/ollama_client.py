"""Give the `ollama` package the URL of a lease."""

import ollama

from machines_client import Client

QUESTION = {"role": "user", "content": "Why is the sky blue?"}

with Client().lease("llama3.1:70b", cold=True, wait_s=30) as lease:
    host = ollama.Client(host=lease.url, timeout=600)
    reply = host.chat(model=lease.model, messages=[QUESTION])
    print(reply.message.content)
