"""Writes the contents of a machine file as YAML."""

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from machines_server.core.text import escape_in_quotes
from machines_server.inventory.yaml.core_schema import is_plain_text

LINE_CHARACTERS = 2**20
"""So long that no text is broken into lines: ruamel.yaml adds a space if that happens after a tab."""
_YAML_1_1_BOOLEANS = {"y", "yes", "n", "no", "on", "off"}
"""Texts in YAML 1.2 that other readers may take for booleans."""


class _Representer(SafeRepresenter):
    """Writes texts so that every YAML reader sees texts."""

    def represent_str(self, data: str) -> ScalarNode:
        """Quote a text that would otherwise be broken into lines, or not read as text in YAML 1.1 or 1.2."""
        is_plain = data.isprintable() and data.lower() not in _YAML_1_1_BOOLEANS and is_plain_text(data)
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if is_plain else '"')


_Representer.add_representer(str, _Representer.represent_str)


def as_yaml(declared: Mapping[str, Any]) -> str:
    """A machine's `declared` as YAML 1.2, with the same keys in the same order and the same values.

    Aliases stay aliases, so that the text is never much longer than the file.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # its hint says None
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = LINE_CHARACTERS
    text = io.StringIO()
    yaml.dump(dict(declared), text)
    return escape_in_quotes(text.getvalue())
