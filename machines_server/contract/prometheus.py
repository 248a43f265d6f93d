"""GET /api/prometheus/sd, for `http_sd_configs` of Prometheus and VictoriaMetrics."""

from msgspec import Struct, field


class SidecarLabels(Struct, frozen=True, omit_defaults=True):
    """The labels of a sidecar; a label is absent if it would be empty."""

    machine: str
    """The name of the machine."""
    role: str
    scheme: str = field(name="__scheme__")
    """`http` or `https`."""
    metrics_path: str = field(name="__metrics_path__")
    """The path to scrape."""
    tags: str = ""
    """Its tags with a comma before, between and after them: `,gpu,office,`."""


class SidecarTarget(Struct, frozen=True):
    """A machine's sidecar."""

    targets: tuple[str]
    """The host and port to scrape."""
    labels: SidecarLabels
