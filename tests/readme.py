"""What the README says, for the tests that compare it with the program."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def rows(heading: str) -> dict[str, str]:
    """A table of two or three columns: what stands in its first, and in its second."""
    table = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]*)`[^|]* \| ([^|]*?) \|", table, re.MULTILINE))


def shape(value: Any) -> Any:
    """The keys of a JSON value, at any depth."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value if isinstance(inner, dict)]
    return None


def example_answer() -> Any:
    """The answer of /api/infrastructure that the README shows."""
    (text,) = code_blocks("json")
    return json.loads(text)
