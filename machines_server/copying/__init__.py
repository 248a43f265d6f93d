"""Copying the past of a server that has kept everything in a file to where several servers keep theirs."""
