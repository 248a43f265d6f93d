"""`python -m tools.schema` writes machines/machine.schema.json anew from the keys of machine files."""

import json
from pathlib import Path

from machines_server.inventory.schema import json_schema

PATH = Path(__file__).parents[1] / "machines" / "machine.schema.json"


def text() -> str:
    """The contents of the file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), "utf-8")
