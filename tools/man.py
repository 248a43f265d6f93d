"""`python -m tools.man` writes man/*.1 anew from the help of the commands."""

from collections.abc import Iterator
from pathlib import Path

from tools.command_docs import CommandDoc, command_docs

FOLDER = Path(__file__).parents[1] / "man"


def pages() -> dict[str, str]:
    """The text of each page by the name of its file."""
    docs = command_docs()
    return {f"{_page_name(one)}.1": _page(one, docs) for one in docs}


def _page_name(doc: CommandDoc) -> str:
    return doc.name.replace(" ", "-")


def _page(doc: CommandDoc, docs: list[CommandDoc]) -> str:
    name = _page_name(doc)
    lines = [f'.TH "{name.upper()}" "1" "" "machines-server" "Commands of machines-server"', ".SH NAME"]
    lines += [f"{_escaped(name)} \\- {_escaped(doc.summary.rstrip('.'))}"]
    lines += [".SH SYNOPSIS", f".B {_escaped(doc.name)}", _text(doc.usage.removeprefix(doc.name).strip())]
    lines += [".SH DESCRIPTION", _text(doc.summary), *(f".PP\n{_text(one)}" for one in doc.paragraphs)]
    inner = [one for one in docs if one.name.startswith(f"{doc.name} ")]
    if inner:
        lines.append(".SH COMMANDS")
        lines += [f".TP\n.B {_escaped(one.name)}\n{_text(one.summary)}" for one in inner]
    lines.append(".SH OPTIONS")
    lines += [f".TP\n.B {_escaped(one.names)}\n{_text(one.meaning)}" for one in doc.options]
    lines += [".SH EXAMPLES", *_examples(doc)]
    others = [_page_name(one) for one in docs if one is not doc]
    lines += [".SH SEE ALSO", ", ".join(f"{_escaped(one)}(1)" for one in others)]
    return "\n".join(lines) + "\n"


def _examples(doc: CommandDoc) -> Iterator[str]:
    for typed, effect in doc.examples:
        yield f".TP\n{_text(effect)}:\n.nf\n{_text(typed)}\n.fi"


def _text(text: str) -> str:
    """A line of text, which must not begin like a request to the formatter."""
    escaped = _escaped(text)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("~", "\\(ti")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.1"):
        old.unlink()
    for file, content in pages().items():
        (FOLDER / file).write_text(content, "utf-8")
