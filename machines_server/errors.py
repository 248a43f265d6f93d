"""The exceptions of machines-server.

MachinesError
 +-- SettingsError       a setting that does not parse or is out of range
 +-- BadAnswerError      an endpoint answered with something that cannot be used
 +-- StoreError          the database cannot do what was asked
 |    +-- MigrationError     its schema is not the one this version knows
 +-- BadParameterError   a parameter of a question that cannot be used
 +-- UnknownMachineError no machine has, or had, that name
 +-- ServerError         a running server could not be asked, or said no
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


class ServerError(MachinesError):
    """A running server could not be asked, or said no."""
