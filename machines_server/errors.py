"""The exceptions of machines-server.

MachinesError
 +-- SettingsError       a setting that does not parse or is out of range
 +-- BadAnswerError      an endpoint's answer cannot be used
 +-- NoAccessError       a file that requests to an endpoint need cannot be used
 +-- StoreError          the database cannot be read or written
 |    +-- DamagedStoreError  its file is damaged
 |    +-- EngineError        the engine of the history does not answer as it should
 |    +-- LockedError        another program has it locked
 |    +-- MigrationError     this version cannot use its schema
 |    +-- SchemaGoneError    a shared database has lost tables
 |    +-- UnreachableStoreError  no server of the database answers
 |    +-- UnsupportedError  the file system, or SQLite, lacks what it needs
 +-- BadParameterError   a parameter of a request is invalid
 +-- UnknownMachineError no machine has or had that name
 +-- NoMachineError      no machine is fit for the request
 +-- UnknownLeaseError   the lease has ended or never existed
 +-- ForbiddenError      the agent that signed may not do that
 +-- ConflictError       the request conflicts with the current state
 +-- TooMuchError        answering would mean reading too much
 +-- TooManyError        a limit is reached; there may be room later
 +-- ServerError         a running server could not be reached, or refused
      +-- BadRequestError    the request is invalid
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from machines_server.core.reasons import Reason
from machines_server.core.text import clip, quoted

if TYPE_CHECKING:  # importing it takes as long as a tenth of a short command
    from machines_server.core.routing.answer import Rejection


class MachinesError(Exception):
    """The base class; its text is a sentence for the person who must act."""


class SettingsError(MachinesError):
    """A setting that does not parse or is out of range."""


class BadAnswerError(MachinesError):
    """An endpoint's answer cannot be used; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason


class NoAccessError(MachinesError):
    """A file that requests to an endpoint need cannot be used: `reason` says why, `hint` where it is.

    `key` is the key of the machine file that names it.
    """

    def __init__(self, reason: Reason, hint: str, key: str) -> None:
        super().__init__(reason.text)
        self.reason, self.hint, self.key = reason, hint, key


class StoreError(MachinesError):
    """A store cannot be read or written: it is locked, full, damaged or missing."""


class DamagedStoreError(StoreError):
    """A database file is damaged, until somebody applies the `remedy`."""

    remedy = (
        "restore a backup, or set MACHINES_ON_DAMAGE=new and restart to have it renamed and a new one created"
    )


class EngineError(StoreError):
    """The engine that keeps the history of several servers does not answer as it should."""


class LockedError(StoreError):
    """Another program has locked a database for too long."""


class SchemaGoneError(StoreError):
    """A shared database has lost tables: it was emptied, or replaced by another one."""


class UnreachableStoreError(StoreError):
    """No server of a shared database can be reached now."""


class MigrationError(StoreError):
    """This version cannot use the schema of a database."""


class UnsupportedError(StoreError):
    """The file system, or SQLite, lacks what a database needs; the text says what to do."""


class BadParameterError(MachinesError):
    """A parameter of a request is invalid; `did_you_mean` has similar valid values, closest first."""

    def __init__(self, parameter: str, why: str, did_you_mean: Sequence[str] = ()) -> None:
        self.parameter, self.did_you_mean = clip(parameter), did_you_mean
        super().__init__(f"The parameter {self.parameter} {why}.{_suggestion(did_you_mean)}")


class UnknownMachineError(MachinesError):
    """No machine has or had that name; `did_you_mean` has similar names, closest first."""

    def __init__(self, message: str, did_you_mean: Sequence[str] = ()) -> None:
        super().__init__(f"{message}{_suggestion(did_you_mean)}")
        self.did_you_mean = did_you_mean


class NoMachineError(MachinesError):
    """No machine is fit; `rejected` says why for each, nearest miss first.

    Retrying after `retry_after_s` may help, unless it is None. If no machine has the model, `did_you_mean`
    lists similar names, closest first.
    """

    def __init__(
        self,
        message: str,
        rejected: "Sequence[Rejection]",
        retry_after_s: float | None,
        did_you_mean: Sequence[str] = (),
    ) -> None:
        super().__init__(f"{message}{_suggestion(did_you_mean)}")
        self.rejected, self.retry_after_s, self.did_you_mean = rejected, retry_after_s, did_you_mean


class UnknownLeaseError(MachinesError):
    """The lease has ended or never existed."""

    def __init__(self, lease: str) -> None:
        super().__init__(
            f"There is no lease {quoted(lease)}: it has expired or was released, if it ever existed."
        )


class ForbiddenError(MachinesError):
    """The agent that signed the request may not do that; the text says who may."""


class ConflictError(MachinesError):
    """The request conflicts with the current state; `code` is the snake_case reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TooMuchError(MachinesError):
    """Answering would mean reading too much; the text says how to ask for less."""


class TooManyError(MachinesError):
    """A limit, named by `code`, is reached; there may be room after `retry_after_s` seconds."""

    def __init__(self, code: str, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.code, self.retry_after_s = code, retry_after_s


class ServerError(MachinesError):
    """A running server could not be reached, or refused the request."""


class BadRequestError(ServerError):
    """The request is invalid, so a running server refused it or would refuse it."""


def _suggestion(names: Sequence[str]) -> str:
    return f" Did you mean {' or '.join(map(clip, names))}?" if names else ""


def described(error: OSError) -> str:
    """The system's error message, with the file concerned."""
    reason = error.strerror or type(error).__name__
    return reason if error.filename is None else f"{error.filename}: {reason}"
