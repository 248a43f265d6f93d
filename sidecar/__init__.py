"""The machines-server sidecar: reports the CPU, memory and GPUs of this host on GET /metrics."""

__version__ = "0.1.0"
