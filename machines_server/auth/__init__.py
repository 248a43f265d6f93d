"""Checks who has signed a request: against public keys here, or by a key-server."""
