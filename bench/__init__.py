"""Benchmarks: what `make bench` runs; none of it is installed."""
