"""Reads tabs as in YAML 1.2: white space between tokens, but never indentation.

ruamel.yaml treats a tab outside of quotes and brackets as an ordinary character.
"""

from typing import Any

from ruamel.yaml.reader import Reader
from ruamel.yaml.scanner import ScannerError

from machines_server.inventory.yaml.scanner import LinearScanner

TAB_INDENTS = "a tab is used as indentation"
"""The `problem` of the ScannerError, whose mark is at the tab."""


class TabReader(Reader):
    """Shows tabs as spaces to `peek` while the scanner skips white space; `prefix` gives the real text."""

    shows_spaces = False

    def peek(self, index: int = 0) -> Any:
        """The character `index` places ahead."""
        character = super().peek(index)
        return " " if self.shows_spaces and character == "\t" else character


class TabScanner(LinearScanner):
    """Skips tabs between tokens, and refuses a tab in the indentation of a block."""

    _tab: tuple[int, int] = (-1, -1)
    """Line and index of the last tab that would indent a key or an entry that begins after it."""

    def scan_to_next_token(self) -> Any:
        """Skip white space and comments."""
        skipped = self._with_tabs_as_spaces(super().scan_to_next_token)
        if self.allow_simple_key and not self.flow_level:
            self._find_tab(self.indent + 1)
        return skipped

    def scan_plain_spaces(self, indent: Any, start_mark: Any) -> Any:
        """Read the white space inside or after a plain scalar."""
        line = self.reader.line
        spaces = self._with_tabs_as_spaces(super().scan_plain_spaces, indent, start_mark)
        if self.reader.line > line and not self.flow_level:
            self._find_tab(indent)
        return spaces

    def scan_tag(self) -> Any:
        """Read a tag, which white space has to follow."""
        return self._with_tabs_as_spaces(super().scan_tag)

    def scan_directive(self) -> Any:
        """Read a line such as %YAML 1.2."""
        return self._with_tabs_as_spaces(super().scan_directive)

    def scan_block_scalar_indicators(self, start_mark: Any) -> Any:
        """Read the indicators after | or >."""
        return self._with_tabs_as_spaces(super().scan_block_scalar_indicators, start_mark)

    def scan_block_scalar_ignored_line(self, start_mark: Any) -> Any:
        """Read the rest of the line of | or >."""
        return self._with_tabs_as_spaces(super().scan_block_scalar_ignored_line, start_mark)

    def fetch_block_entry(self) -> None:
        """Read a - as the next token."""
        self._refuse_tab_before(self.reader.index)
        super().fetch_block_entry()

    def fetch_key(self) -> None:
        """Read a ? as the next token."""
        self._refuse_tab_before(self.reader.index)
        super().fetch_key()

    def fetch_value(self) -> None:
        """Read a : as the next token; its key may have been read before."""
        key = self.possible_simple_keys.get(self.flow_level)
        self._refuse_tab_before(key.index if key else self.reader.index)
        super().fetch_value()

    def _with_tabs_as_spaces(self, scan: Any, *arguments: Any) -> Any:
        reader = self.reader
        before, reader.shows_spaces = reader.shows_spaces, True
        try:
            return scan(*arguments)
        finally:
            reader.shows_spaces = before

    def _find_tab(self, indent: int) -> None:
        """Find a tab right before the next token, which needs `indent` spaces at the start of a line."""
        reader = self.reader
        start = reader.pointer
        while start > 0 and reader.buffer[start - 1] in " \t":
            start -= 1
        tab = reader.buffer.find("\t", start, reader.pointer)
        if tab < 0 or reader.peek() in "\0#":
            return
        self._tab = reader.line, reader.index - (reader.pointer - tab)
        if start == 0 or reader.buffer[start - 1] in "\r\n":
            self._refuse_tab_before(reader.index if tab - start < indent else -1)

    def _refuse_tab_before(self, index: int) -> None:
        """Raise an error if there is a tab in this line before `index`, where an entry of a block begins."""
        line, tab = self._tab
        if line == self.reader.line and tab < index and not self.flow_level:
            mark = self.reader.get_mark()
            mark.column -= mark.index - tab
            raise ScannerError(None, None, TAB_INDENTS, mark)
