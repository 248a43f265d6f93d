"""One of many agents: takes and releases leases as fast as the server answers.

`python -m bench.lease_agent PORT COUNT SEED` waits for a line on its standard input. For each lease it prints
a line of JSON: the machine and the GiB, and when the lease was requested, granted and released, in monotonic
seconds, which are the same for all processes of a machine. After a 503 it tries again.
"""

import json
import random
import sys
import time
from http.client import HTTPConnection

import click

from bench.scripts import MODEL

MAX_LEASE_WAIT_S = 60.0


def _ask(
    connection: HTTPConnection, method: str, path: str, body: object = None
) -> tuple[int, dict[str, object]]:
    connection.request(method, path, json.dumps(body) if body else None)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@click.command()
@click.argument("port", type=int)
@click.argument("count", type=int)
@click.argument("seed", type=int)
def main(port: int, count: int, seed: int) -> None:
    """Take COUNT leases, one after the other."""
    chance = random.Random(seed)
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    sys.stdin.readline()
    for _ in range(count):
        wanted = {
            "model": MODEL,
            "min_free_vram_gb": chance.choice([1, 2.5, 6, 9]),
            "ttl_s": 120,
            "holder": str(seed),
        }
        deadline = time.monotonic() + MAX_LEASE_WAIT_S
        while True:
            asked = time.monotonic()
            status, lease = _ask(connection, "POST", "/api/leases", wanted)
            got = time.monotonic()
            if status == 201:
                break
            if status != 503 or got > deadline:
                raise RuntimeError(f"{status}: {lease}")
            time.sleep(chance.uniform(0.005, 0.02))
        time.sleep(chance.uniform(0, 0.02))
        releasing = time.monotonic()
        status, released = _ask(connection, "DELETE", f"/api/leases/{lease['lease']}")
        if status != 200:
            raise RuntimeError(f"{status}: {released}")
        line = {"asked": asked, "got": got, "releasing": releasing, "released": time.monotonic()}
        click.echo(
            json.dumps(line | {"lease": lease["lease"], "machine": lease["machine"], "gpus": lease["gpus"]})
        )


if __name__ == "__main__":
    main()
