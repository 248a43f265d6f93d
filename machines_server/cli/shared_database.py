"""The database that several servers share, for commands; its library is imported only in clusters."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from machines_server.errors import SettingsError
from machines_server.settings import Settings

if TYPE_CHECKING:
    from machines_server.store.postgres.database import Database

MISSING = (
    "MACHINES_DATABASE_URL needs packages that are not installed: pip install 'machines-server[cluster]'"
)


def check_packages() -> None:
    """Raise SettingsError unless the packages that several servers need are installed."""
    try:
        for name in ("cramjam", "psycopg", "psycopg_pool"):
            import_module(name)
    except ImportError:  # psycopg raises it, too, if it finds no libpq
        raise SettingsError(MISSING) from None


@contextmanager
def open_database(settings: Settings) -> Iterator["Database"]:
    """The database of the settings; no connection is made yet."""
    check_packages()
    from machines_server.store.postgres.database import Database

    with closing(Database(settings.database_url or "", settings.database_password_file)) as database:
        yield database


def migrate_shared(settings: Settings) -> list[str]:
    """Apply the missing migrations and return their names; raises StoreError."""
    with open_database(settings) as database:
        from machines_server.store.postgres.migrate import migrate

        return migrate(database)
