"""The version of the client, which is that of the server in the same checkout."""

VERSION = "0.1.0"
