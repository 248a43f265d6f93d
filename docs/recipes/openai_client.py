"""Give the `openai` package the URL of a lease: under /v1, Ollama speaks the API of OpenAI."""

from openai import OpenAI

from machines_client import Client

QUESTION = {"role": "user", "content": "Why is the sky blue?"}

with Client().lease("llama3.1:70b", cold=True, wait_s=30) as lease:
    host = OpenAI(base_url=f"{lease.url}/v1", api_key="not needed", timeout=600)
    reply = host.chat.completions.create(model=lease.model, messages=[QUESTION])
    print(reply.choices[0].message.content)
