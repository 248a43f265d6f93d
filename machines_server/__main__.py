"""`python -m machines_server` is `machines-server`."""

from machines_server.cli.main import main

main()
