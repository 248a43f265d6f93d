"""Reads CPU, memory and disk of this host with psutil, for both the sidecar and the server."""
