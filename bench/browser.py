"""Chromium, driven by playwright: Debian's, Chrome, or the one that playwright installed."""

import shutil
from pathlib import Path

from playwright.sync_api import Browser, Playwright

# The headless shell opens a page with an eighth of the work of the whole browser.
_PROGRAM = (
    shutil.which("chromium-headless-shell") or shutil.which("chromium") or shutil.which("google-chrome")
)
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--in-process-gpu",  # which without a GPU only passes frames on, between two processes otherwise
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def is_installed(playwright: Playwright) -> bool:
    """Return whether there is a browser to launch."""
    return _PROGRAM is not None or Path(playwright.chromium.executable_path).exists()


def launch(playwright: Playwright, *arguments: str) -> Browser:
    """Start a browser that connects only to what it is told to open."""
    return playwright.chromium.launch(executable_path=_PROGRAM, args=[*_QUIET, *arguments])
