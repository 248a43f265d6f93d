"""Where Prometheus finds the sidecars: GET /api/prometheus/sd."""

from collections.abc import Iterable

from msgspec import UNSET

from machines_server.contract.prometheus import SidecarLabels, SidecarTarget
from machines_server.core.machine import Machine
from machines_server.core.text import printable
from machines_server.exposition.fleet import tags_of

METRICS_PATH = "/metrics"
"""Where a sidecar answers in Prometheus' format."""


def sidecar_targets(machines: Iterable[Machine]) -> list[SidecarTarget]:
    """The sidecars of all machines that have one."""
    return [
        SidecarTarget(
            targets=(sidecar.url.partition("://")[2],),
            labels=SidecarLabels(
                machine=machine.name,
                role=printable(machine.role),
                scheme=sidecar.scheme,
                metrics_path=METRICS_PATH,
                tags=tags_of(machine) or UNSET,
            ),
        )
        for machine in machines
        if (sidecar := machine.sidecar) is not None
    ]
