"""The machines-server sidecar: what CPU, memory and GPUs of this host are doing, on GET /metrics."""

__version__ = "0.1.0"
