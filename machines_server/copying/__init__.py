"""Copies the history of a single server, which keeps everything in a file, into a cluster."""
