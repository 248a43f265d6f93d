"""Debian's Chromium, driven by playwright."""

import shutil

from playwright.sync_api import Browser, Playwright

CHROMIUM = shutil.which("chromium")
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def launch(playwright: Playwright) -> Browser:
    """A browser that asks nobody but whom it is sent to."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=list(_QUIET))
