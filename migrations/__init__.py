"""The numbered SQL files that build `telemetry.db`; forward only, frozen once released."""
