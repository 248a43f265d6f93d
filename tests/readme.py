"""What the README and the pages in docs/ say, for the tests that compare them with the program."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def page(name: str) -> str:
    """A page of docs/."""
    return (ROOT / "docs" / name).read_text()


def rows(name: str) -> dict[str, str]:
    """The tables of a page, with two or three columns: what is in the first, and in the second."""
    return dict(re.findall(r"^\| `([^`]*)`[^|]* \| ([^|]*?) \|", page(name), re.MULTILINE))


def shape(value: Any) -> Any:
    """The keys of a JSON value, at any depth."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value if isinstance(inner, dict)]
    return None


def example_answer() -> Any:
    """The answer of /api/machines/workstation that the README shows."""
    (text,) = code_blocks("json")
    return json.loads(text)
