"""Benchmarks: what `make bench` runs; nothing of it is installed."""
