"""The description of the API, which `python -m tools.openapi` makes from the classes of this folder."""

from functools import cache
from importlib.resources import files


@cache
def openapi_json() -> bytes:
    """openapi.json."""
    return (files("machines_server.contract") / "openapi.json").read_bytes()
