"""The style sheets of the page take every colour, size of type, space and radius from one set of tokens."""

import re
from pathlib import Path

STATIC = Path(__file__).parent.parent / "machines_server" / "web" / "static"
SHEETS = {path.name: path.read_text() for path in STATIC.glob("*.css")}
DECLARATION = re.compile(r"(?<![\w-])([a-z-]+):\s*([^;{}]+)[;}]")
TOKEN = re.compile(r"(--[a-z][\w-]*):")
SPACES = r"(padding|margin)(-[a-z]+)?|((row|column)-)?gap"
NO_SIZE = {"inherit", "0", "16px", "20px", "10pt"}
"""Those of the root element, to which the tokens are relative, and what is no size."""


def declared(pattern: str) -> list[tuple[str, str, str]]:
    """The declarations of all sheets whose property matches, as (sheet, property, value)."""
    return [
        (name, key, value.strip())
        for name, sheet in SHEETS.items()
        for key, value in DECLARATION.findall(re.sub(r"--[\w-]+:[^;}]*", "", sheet))
        if re.fullmatch(pattern, key)
    ]


def test_sizes_of_type_and_radii_are_tokens() -> None:
    for sheet, _, value in declared("font-size"):
        assert value in NO_SIZE or re.fullmatch(r"var\(--text-\w+\)", value), f"{sheet}: font-size: {value}"
    for sheet, _, value in declared("border-radius"):
        assert value == "0" or re.fullmatch(r"var\(--radius(-\w+)?\)", value), (
            f"{sheet}: border-radius: {value}"
        )


def test_spaces_are_tokens() -> None:
    for sheet, key, value in declared(SPACES):
        if value == "12mm":  # of the sheet of paper
            continue
        rest = re.sub(
            r"calc\([^;]*\)|var\(--[\w-]+\)|\b(auto|0|inherit)\b|\d*\.?\d+(em|vh)|!important", "", value
        )
        assert not rest.strip(), f"{sheet}: {key}: {value}"


def test_colours_are_tokens() -> None:
    for sheet, _, value in declared(".*"):
        assert not re.search(r"#[0-9a-f]{3,8}\b|(rgb|hsl)a?\(", value), f"{sheet}: {value}"


def test_every_token_is_defined_once_and_used() -> None:
    text = "\n".join(SHEETS.values())
    scripts = "\n".join(path.read_text() for path in STATIC.rglob("*.js"))
    used = set(re.findall(r"var\((--[\w-]+)", text + scripts)) | set(re.findall(r'"(--[\w-]+)"', scripts))
    lines = {f"--line-{number}" for number in range(6)}  # named by number in the script
    defined = TOKEN.findall(SHEETS["style.css"].partition("* {")[0]) + TOKEN.findall(SHEETS["compare.css"])
    assert len(defined) == len(set(defined))
    assert set(defined) <= used | lines
