"""The exceptions of machines-server.

MachinesError
 +-- SettingsError       a setting that does not parse or is out of range
 +-- BadAnswerError      an endpoint answered with something that cannot be used
 +-- StoreError          the database cannot do what was asked
 |    +-- MigrationError     its schema is not the one this version knows
 +-- BadParameterError   a parameter of a question that cannot be used
 +-- UnknownMachineError no machine has, or had, that name
 +-- NoMachineError      no machine is fit for what was asked
 +-- UnknownLeaseError   a lease that has ended, or never was
 +-- ConflictError       what is asked does not go together with what is
 +-- ServerError         a running server could not be asked, or said no
      +-- RefusedError       it did not take the question: wrong usage
"""


class MachinesError(Exception):
    """Base of all; the text is a sentence for the person who must act."""


class SettingsError(MachinesError):
    """A setting that does not parse or is out of range."""


class BadAnswerError(MachinesError):
    """An endpoint answered with something that cannot be used; the text says what."""


class StoreError(MachinesError):
    """The database cannot do what was asked: locked, full, damaged, missing."""


class MigrationError(StoreError):
    """The schema of the database is not one that this version can use."""


class BadParameterError(MachinesError):
    """A parameter of a question that cannot be used."""

    def __init__(self, parameter: str, why: str) -> None:
        super().__init__(f"The parameter {parameter} {why}.")
        self.parameter = parameter


class UnknownMachineError(MachinesError):
    """No machine has, or had, that name."""


class NoMachineError(MachinesError):
    """No machine is fit; `rejected`, the JSON of a list, says why for each, nearest miss first."""

    def __init__(self, message: str, rejected: bytes, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.rejected, self.retry_after_s = rejected, retry_after_s


class UnknownLeaseError(MachinesError):
    """A lease that has ended, or never was."""


class ConflictError(MachinesError):
    """What is asked does not go together with what is; `code` says in one word why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ServerError(MachinesError):
    """A running server could not be asked, or said no."""


class RefusedError(ServerError):
    """A running server did not take the question as it was put."""
