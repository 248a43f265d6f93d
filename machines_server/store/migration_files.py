"""The numbered SQL files that build a database, and checks that they did."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from machines_server.errors import MigrationError


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file: 0001_samples.sql has version 1."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The checksum that a database records for each applied migration."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations_in(folder: Traversable) -> list[Migration]:
    """The migrations of this version in a folder, in order."""
    found = sorted((one for one in folder.iterdir() if one.name.endswith(".sql")), key=lambda one: one.name)
    known = [Migration(int(one.name[:4]), one.name, one.read_text("utf-8")) for one in found]
    if [one.version for one in known] != list(range(1, len(known) + 1)):
        raise MigrationError(
            "the migrations of this installation are not numbered without gaps; reinstall it"
        )
    return known


def check_applied(applied: Sequence[tuple[int, str, str]], known: Sequence[Migration]) -> int:
    """How many migrations were applied; raises MigrationError unless they are the first of the known ones.

    `applied` has the version, name and checksum of each, in order.
    """
    for number, (version, name, sha256) in enumerate(applied):
        if number >= len(known):
            raise MigrationError(
                f"the database is newer than this version: it has {name}, which is not known here; "
                "install the newer version or restore a backup"
            )
        if (version, name, sha256) != (known[number].version, known[number].name, known[number].sha256):
            raise MigrationError(
                f"the database was created with another {name} than the one installed; "
                "install the version that created it or restore a backup"
            )
    return len(applied)
