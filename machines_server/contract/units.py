"""Types of values shared by several answers; their units appear in JSON Schemas and in docs/api.md."""

from typing import Annotated, overload

from msgspec import Meta

from machines_server.core.sample import GIB

Moment = Annotated[
    str,
    Meta(
        description="A time: RFC 3339 in UTC, with Z.",
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$",
        extra={"unit": "RFC 3339"},
    ),
]
Gib = Annotated[
    float, Meta(description="GiB (2^30 bytes), rounded to two decimals.", ge=0, extra={"unit": "GiB"})
]
Percent = Annotated[float, Meta(description="Percent, from 0 to 100.", ge=0, le=100, extra={"unit": "%"})]
Seconds = Annotated[float, Meta(description="Seconds.", ge=0, extra={"unit": "s"})]
Celsius = Annotated[float, Meta(description="Degrees Celsius.", extra={"unit": "°C"})]
Watts = Annotated[float, Meta(description="Watts.", ge=0, extra={"unit": "W"})]
Processes = Annotated[
    float,
    Meta(description="Processes that run or wait to run.", ge=0, extra={"unit": "processes"}),
]
Bytes = Annotated[int, Meta(description="Bytes.", ge=0, extra={"unit": "bytes"})]
Tokens = Annotated[int, Meta(description="Tokens.", ge=0, extra={"unit": "tokens"})]
Count = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(description="A TCP port.", ge=1, le=65535)]


@overload
def gib(size_bytes: int) -> float: ...
@overload
def gib(size_bytes: int | None) -> float | None: ...
def gib(size_bytes: int | None) -> float | None:
    """Bytes as GiB, rounded to two decimals; None stays None."""
    return None if size_bytes is None else round(size_bytes / GIB, 2)
