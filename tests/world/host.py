"""A host as a process: `python -m tests.world.host HOSTNAME USED_GB UPTIME_S`, until its input ends."""

import sys

from tests.bodies import gpu_body, http, ollama_body, sidecar_body
from tests.fakes import FakeFleet

if __name__ == "__main__":
    hostname, used_gb, uptime_s = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    body = sidecar_body(gpu_body(0, used_gb=used_gb), hostname=hostname, uptime_s=uptime_s)
    with FakeFleet() as fleet:
        fleet.listen(http(body), "0.0.0.0", 3039)
        fleet.listen(http(ollama_body("phi3:mini")), "0.0.0.0", 11434)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
