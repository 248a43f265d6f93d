"""How a query gives several values for one parameter.

Any list may be given by repetition: `tag=a&tag=b`. Where no value can contain a comma, commas separate values
as well: `metric=cpu_percent,up`. Empty values are ignored.
"""

from collections.abc import Iterable

SEPARATED = ("metric", "gpu", "type", "machine", "exclude")
"""Lists whose values may also be separated by commas."""
REPEATABLE = (*SEPARATED, "tag", "where")
"""The parameters that are lists, whichever path takes them; any other may be given only once."""


def list_values(name: str, texts: Iterable[str]) -> list[str]:
    """The values in all texts given for a list, in order, without empty ones."""
    if name in SEPARATED:
        texts = (value for text in texts for value in text.split(","))
    return [text for text in texts if text]
