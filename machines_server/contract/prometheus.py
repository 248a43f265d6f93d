"""GET /api/prometheus/sd, for `http_sd_configs` of Prometheus and VictoriaMetrics."""

from msgspec import UNSET, Struct, UnsetType, field


class SidecarLabels(Struct, frozen=True):
    """The labels of a sidecar."""

    machine: str
    """The name of the machine."""
    role: str
    scheme: str = field(name="__scheme__")
    """`http` or `https`."""
    metrics_path: str = field(name="__metrics_path__")
    """The path to scrape."""
    tags: str | UnsetType = UNSET
    """Its tags with a comma before, between and after them: `,gpu,office,`; absent if it has none."""


class SidecarTarget(Struct, frozen=True):
    """A machine's sidecar."""

    targets: tuple[str]
    """The host and port to scrape."""
    labels: SidecarLabels
