"""Tools for agents: what they are, how they are called, and the server of the Model Context Protocol."""
