"""The code for signatures that client, server and sidecar share."""
