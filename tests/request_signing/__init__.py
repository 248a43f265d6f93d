"""What client, server and sidecar share of signatures."""
