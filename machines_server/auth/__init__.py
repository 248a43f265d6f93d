"""Who has signed a request: checked here against public keys, or by a key-server."""
