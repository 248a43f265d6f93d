"""The settings for commands that work on this host's files."""

from machines_server.cli.output import echo
from machines_server.settings import Settings, load_settings
from machines_server.store.sqlite.own_files import claim


def read_settings() -> Settings:
    """Read the settings, printing their warnings on standard error."""
    settings, warnings = load_settings()
    for warning in warnings:
        echo(f"machines-server: warning: {warning}", err=True)
    return settings


def settings_for_writing() -> Settings:
    """Read the settings, and make the data folder readable by its user only."""
    settings = read_settings()
    claim(settings.data_dir)
    return settings
