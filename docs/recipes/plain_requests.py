"""Lease a machine, send it one job and release it, with requests alone."""

import os

import requests

URL = os.environ.get("MACHINES_URL", "127.0.0.1:3038")
SERVER = URL if "://" in URL else f"http://{URL}"

question = {"model": "llama3.1:70b", "cold": True, "wait_s": 30, "ttl_s": 600}
answer = requests.post(f"{SERVER}/api/leases", json=question, timeout=40)
if not answer.ok:  # 503: no machine is fit
    raise SystemExit(answer.json()["message"])
lease = answer.json()
try:  # for at most ttl_s; a longer job has to renew: POST /api/leases/LEASE/renew
    job = {"model": lease["model"], "prompt": "Why is the sky blue?", "stream": False}
    reply = requests.post(f"{lease['url']}/api/generate", json=job, timeout=500)
    reply.raise_for_status()
    print(reply.json()["response"])
finally:
    requests.delete(f"{SERVER}/api/leases/{lease['lease']}", timeout=10)
