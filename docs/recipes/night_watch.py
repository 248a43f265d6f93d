"""Print each machine that goes offline, and when it is back; Ctrl-C ends it."""

import time

from machines_client import Client, ServerUnavailable, ServerUnreachable

client = Client()
newest = client.events(limit=1).events
last = newest[0].id if newest else 0
print(f"watching {client.url}", flush=True)
while True:
    try:
        # The server answers as soon as something happens, or with nothing after wait_s.
        for event in client.follow(type=["offline", "online"], after=last, wait_s=30):
            print(event.at, event.machine, event.type, event.reason or "", flush=True)
            last = event.id
    except (ServerUnreachable, ServerUnavailable) as error:
        print(f"no news: {error}", flush=True)
        time.sleep(5)
