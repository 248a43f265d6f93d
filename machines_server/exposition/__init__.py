"""What Prometheus scrapes of the server, and where it finds the sidecars."""
