"""Runs a command while a lease is held."""

import logging
import os
import shutil
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

from machines_server.cli.output import echo
from machines_server.client import Lease

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""The exit statuses of shells for a command that cannot be run."""
_OF_A_SIGNAL = 128
_LOOK_S = 0.5
"""How often to check whether the lease is lost."""
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SENT_BY_TERMINAL = 0x80
"""SI_KERNEL of siginfo_t: the terminal has sent the signal to the command as well."""
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def missing_status(program: str) -> int:
    """The exit status for a program that cannot be found; 0 if it can."""
    if shutil.which(program):
        return 0
    return NOT_EXECUTABLE if os.sep in program and Path(program).exists() else NOT_FOUND


def run_leased(words: Sequence[str], lease: Lease, *, kill_on_loss: bool) -> int:
    """Run a command to its end, release the lease, and return the exit status as shells report it.

    SIGINT, SIGTERM and SIGHUP are passed to the command. Only for the main thread.
    """
    logging.getLogger("machines_client").setLevel(logging.ERROR)  # losses are reported below
    # A signal that this process ignores, as after nohup, stays ignored by both.
    forwarded = {one for one in _PASSED_ON if signal.getsignal(one) is not signal.SIG_IGN}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with lease:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*forwarded, signal.SIGCHLD})
        try:
            child = _start(words, lease, mask)
        except OSError as error:
            echo(f"machines-server: {words[0]}: {error.strerror}", err=True)
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        return _wait(child, lease, forwarded, kill_on_loss=kill_on_loss)


def _start(words: Sequence[str], lease: Lease, mask: Iterable[int]) -> int:
    """Start the command with the signals as they were before; returns its process id."""
    environment = {
        **os.environ,
        "OLLAMA_HOST": lease.url,
        "MACHINES_LEASE": lease.id,
        "MACHINES_MODEL": lease.model or "",
        "MACHINES_CREDENTIAL": lease.credential or "",
    }
    return os.posix_spawnp(words[0], list(words), environment, setsigmask=mask, setsigdef=_IGNORED_BY_PYTHON)


def _wait(child: int, lease: Lease, forwarded: set[signal.Signals], *, kill_on_loss: bool) -> int:
    is_told = False
    while True:
        came = signal.sigtimedwait({*forwarded, signal.SIGCHLD}, _LOOK_S)
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _OF_A_SIGNAL - code
        if came and came.si_signo in forwarded and came.si_code != _SENT_BY_TERMINAL:
            os.kill(child, came.si_signo)
        if not is_told and (lost := lease.lost):
            is_told = True
            reason = str(lost).removesuffix(".")
            ending = "; ending the command" if kill_on_loss else ""
            echo(f"machines-server: the lease is lost: {reason}{ending}", err=True)
            if kill_on_loss:
                os.kill(child, signal.SIGTERM)
