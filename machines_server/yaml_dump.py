"""What a machine file declares, written as YAML again."""

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from machines_server.yaml_document import OLD_BOOLEANS


class _Representer(SafeRepresenter):
    """Writes texts so that everybody reads them as such."""

    def represent_str(self, data: str) -> ScalarNode:
        """In quotes where ruamel.yaml would break the line at a character, or YAML 1.1 sees a boolean."""
        is_plain = data.isprintable() and data.lower() not in OLD_BOOLEANS
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if is_plain else '"')


_Representer.add_representer(str, _Representer.represent_str)


def as_yaml(declared: Mapping[str, Any]) -> str:
    """What `Document.read` made of a file as YAML 1.2 again: the same keys, in the same order, and values.

    What stood behind an alias is an alias again, so that the text is never much longer than the file was.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # its hint says None
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 110
    text = io.StringIO()
    yaml.dump(dict(declared), text)
    return text.getvalue()
