"""Completion in bash, zsh and fish: the command that prints the scripts, and the answers to them."""

import os
import shlex

import click
from click import shell_completion
from click.shell_completion import CompletionItem, ShellComplete

from machines_server.cli.command import COMPLETE_VARIABLE, PROGRAM, command
from machines_server.cli.output import echo

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' line
    COMPREPLY=()
    while read -r line; do
        case $line in
            file,*) compopt -o default ;;
            plain,*) COMPREPLY+=("${line#plain,}") ;;
        esac
    done < <(COMP_TYPED="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(ShellComplete):
    """Completes from the whole typed line: bash splits `llama3.1:70b` into three words."""

    name = "bash"
    source_template = _BASH
    _typed_word = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one to complete, and that one."""
        typed = os.environ.get("COMP_TYPED", "")
        words = _words(typed)
        if not words or typed[-1:].isspace():
            return words[1:], ""
        self._typed_word = words[-1]
        return words[1:-1], words[-1]

    def format_completion(self, item: CompletionItem[str]) -> str:
        """A completion without the part up to the last colon, which bash treats as separate words."""
        before, colon, _ = self._typed_word.rpartition(":")
        return f"{item.type},{item.value.removeprefix(before + colon)}"


def _words(typed: str) -> list[str]:
    try:
        return shlex.split(typed)
    except ValueError:  # a quotation mark is open
        return typed.split()


def register() -> None:
    """Use our completion for bash instead of click's."""
    shell_completion.add_completion_class(_Bash)


@command(
    "completion",
    examples=[
        (
            'eval "$(machines-server completion bash)"',
            "Enable it in this shell; add it to ~/.bashrc for every bash",
        ),
        (
            "machines-server completion zsh >~/.zfunc/_machines-server",
            "Enable it in zsh, with ~/.zfunc in fpath",
        ),
        (
            "machines-server completion fish >~/.config/fish/completions/machines-server.fish",
            "Enable it in fish",
        ),
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a SHELL's script for completing commands, options, machines and models.

    Names of machines, models and leases come from the server, which has one second to answer.
    """
    register()
    kind = shell_completion.get_completion_class(shell) or _Bash
    script = kind(context.find_root().command, {}, PROGRAM, COMPLETE_VARIABLE).source()
    echo(*script.rstrip("\n").split("\n"))
