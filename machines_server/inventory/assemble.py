"""Assembles the registry from all machine files of a folder."""

from collections.abc import Iterator, Mapping

from machines_server.core.hosts import is_loopback
from machines_server.core.machine import Machine, Problem, Registry
from machines_server.core.same_host import same_endpoints
from machines_server.inventory.last_good import FileState


def assemble(files: Mapping[str, FileState], folder_problem: Problem | None, now: float) -> Registry:
    """The machines in force and all problems.

    If two files have the same machine name, compared without case, the first by file name is used. With a
    `folder_problem`, the folder could not be listed and `files` are from an earlier listing.
    """
    states = [state for _, state in sorted(files.items())]
    by_name: dict[str, Machine] = {}
    for state in states:
        if state.machine is not None:
            by_name.setdefault(state.machine.name.casefold(), state.machine)
    machines = by_name.values()
    has_remote_host = not all(is_loopback(machine.hostname) for machine in machines)
    problems = [folder_problem] if folder_problem else []
    for state in states:
        problems += [*state.problems, *_conflicts(state, by_name, has_remote_host=has_remote_host)]
    problems += same_endpoints(sorted(machines, key=lambda machine: machine.file))
    return Registry(
        machines=tuple(sorted(machines, key=lambda machine: machine.name)),
        problems=tuple(problems),
        loaded_at=now,
        is_whole=folder_problem is None,
    )


def _conflicts(
    state: FileState, by_name: Mapping[str, Machine], *, has_remote_host: bool
) -> Iterator[Problem]:
    """The problem that a file has because of other files, if any."""
    machine = state.machine
    if machine is None:
        return
    first = by_name[machine.name.casefold()]
    if first is not machine:
        message = f"{first.file} already has the name {first.name}, so {machine.file} is refused"
        message += "; expected another name, compared without case"
        yield Problem(machine.file, message, *state.name_at, "name")
    elif has_remote_host and is_loopback(machine.hostname):
        message = f"{machine.hostname} is a different host for each reader, and other machines are remote"
        message += "; expected a name or an address that all readers can reach"
        yield Problem(machine.file, message, *state.hostname_at, "network.hostname", "warning")
