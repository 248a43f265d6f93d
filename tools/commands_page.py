"""`python -m tools.commands_page` writes docs/commands.md anew from the help of the commands."""

from collections.abc import Iterator
from pathlib import Path

from tools.command_docs import CommandDoc, command_docs

PATH = Path(__file__).parents[1] / "docs" / "commands.md"
INTRODUCTION = """\
# The commands

`python -m tools.commands_page` writes this page from `machines_server/cli/`. `machines-server COMMAND --help`
prints the same. So do the manual pages, which `python -m tools.man` writes and the package installs:
`man machines-server-pick` or, in a checkout, `man man/machines-server-pick.1`.

- Commands that ask a server take its URL, or `host:port`, from `--server` or `MACHINES_URL`.
- They print tables for people, which fit the terminal, and with `--json` JSON for programs. Terminals get
  colours unless `NO_COLOR` is set. Times are local.
- Times are given as `03:00` (the latest one), `today`, `yesterday`, `2026-11-28`, `2026-11-28 03:00`, `-90s`,
  `-24h`, `-7d`, `-2w`, `-1y` (365 days), epoch seconds or RFC 3339. A date alone is its first moment.
- Exit status: 0 success, 1 a negative answer, 2 wrong usage or settings, 130 after Ctrl-C.
- To complete commands, options, and the names of machines, models and leases, let your shell run one of these
  when it starts: `eval "$(machines-server completion bash)"`, `eval "$(machines-server completion zsh)"` or
  `machines-server completion fish | source`. Names come from the server, which has one second to answer.
"""


def text() -> str:
    """The contents of the page."""
    _, *commands = command_docs()
    index = ["| command | what it does |", "|---|---|"]
    index += [f"| {_link(one)} | {_escaped(one.summary)} |" for one in commands]
    return "\n".join([INTRODUCTION, *index, "", *(line for one in commands for line in _section(one))])


def _link(doc: CommandDoc) -> str:
    return f"[`{doc.name}`](#{doc.name.replace(' ', '-')})"


def _section(doc: CommandDoc) -> Iterator[str]:
    yield from (f"## {doc.name}", "", f"`{doc.usage}`", "", doc.summary, "")
    for paragraph in doc.paragraphs:
        yield from (paragraph, "")
    yield from ("| option | meaning |", "|---|---|")
    for option in doc.options:
        yield f"| `{_escaped(option.names)}` | {_escaped(option.meaning)} |"
    yield from ("", "```sh")
    for typed, effect in doc.examples:
        yield from (f"# {effect}", typed)
    yield from ("```", "")


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


if __name__ == "__main__":
    PATH.write_text(text().rstrip("\n") + "\n", "utf-8")
