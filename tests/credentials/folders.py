"""Folders of credentials."""

from pathlib import Path


def put(folder: Path, content: str = "hunter2", mode: int = 0o600, name: str = "token") -> Path:
    """Put a file into the folder as one does: whole or not at all."""
    new = folder / f".{name}"
    new.write_text(content)
    new.chmod(mode)
    return new.rename(folder / name)
