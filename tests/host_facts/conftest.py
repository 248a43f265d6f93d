"""Real sidecars for the tests of what both read of their host."""

from tests.sidecar.conftest import driver_library, scenario, start

__all__ = ["driver_library", "scenario", "start"]
