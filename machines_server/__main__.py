"""`python -m machines_server` is `machines-server`."""

from machines_server.cli import main

main()
