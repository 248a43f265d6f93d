"""A scanner whose cost does not grow with the square of open brackets, as ruamel.yaml's does."""

from typing import Any

from ruamel.yaml.scanner import Scanner


class LinearScanner(Scanner):
    """Checks only the first possible key for each token, where `Scanner` checks all of them.

    `possible_simple_keys` has one entry for each open bracket, the outermost first, so its first entry has
    the lowest token number and becomes stale first.
    """

    def stale_possible_simple_keys(self) -> None:
        """Forget keys that did not turn out to be keys."""
        first = self._first_possible_key()
        if first is not None and (
            first.line != self.reader.line or self.reader.index - first.index > 1024  # as in Scanner
        ):
            super().stale_possible_simple_keys()

    def next_possible_simple_key(self) -> Any:
        """The number of the first token that may begin a key."""
        first = self._first_possible_key()
        return None if first is None else first.token_number

    def _first_possible_key(self) -> Any:
        return next(iter(self.possible_simple_keys.values()), None)
