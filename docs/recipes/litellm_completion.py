"""Send each call of LiteLLM to the machine of a lease, with `api_base`."""

import litellm

from machines_client import Client

client = Client()


def complete(model: str, prompt: str) -> str:
    """The reply of a model, wherever it is."""
    with client.lease(model, cold=True, wait_s=30) as lease:
        reply = litellm.completion(
            model=f"ollama_chat/{lease.model}",
            api_base=lease.url,
            messages=[{"role": "user", "content": prompt}],
        )
        return reply.choices[0].message.content


print(complete("llama3.1:70b", "Why is the sky blue?"))
