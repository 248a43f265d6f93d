"""Requests that are signed with an agent's ed25519 key: shared by client, server and sidecar.

Four headers carry the name of the agent, the time, a number used once, and the signature, which covers
method, path and body.
"""
