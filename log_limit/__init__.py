"""Limits how many lines of each kind are logged, for both the sidecar and the server."""
