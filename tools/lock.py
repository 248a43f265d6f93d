"""Writes the lock files in locks/: the version of each package, and the hashes of its files."""

import argparse
import configparser
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

SERVER = ("requirements.txt", "sidecar/requirements.txt")
OPTIONS = (
    *("--quiet", "--universal", "--python-version", "3.11", "--fork-strategy", "fewest", "--generate-hashes"),
    *("--custom-compile-command", "make lock", "--annotation-style", "line"),
    *("--no-emit-index-url", "--no-emit-find-links"),  # everybody configures their own package index
)


def main() -> None:
    """Write all locks, keeping the versions that still fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="Take the newest versions.")
    upgrade = ["--upgrade"] if parser.parse_args().upgrade else []
    Path("locks").mkdir(exist_ok=True)
    # The other locks take their versions from the first, so that tests run with the server's versions.
    _compile("dev", [*SERVER, "-", *upgrade], _dev_requirements())
    _compile("server", [*SERVER, "--constraint", "locks/dev.txt"])
    _compile("sidecar", [SERVER[1], "--constraint", "locks/dev.txt"])
    _compile("sidecar-auth", ["sidecar/requirements-auth.txt", "--constraint", "locks/dev.txt"])
    _compile("build", ["-", *upgrade], _build_requirements())


def _compile(name: str, arguments: Iterable[str], requirements: Iterable[str] = ()) -> None:
    """Write one lock for all platforms and Python versions; the argument `-` stands for `requirements`."""
    command = ["uv", "pip", "compile", *OPTIONS, "--output-file", f"locks/{name}.txt", *arguments]
    found = subprocess.run(  # noqa: S603  no input from outside
        [sys.executable, "-m", *command], input="\n".join(requirements), text=True, check=False
    )
    if found.returncode:
        sys.exit(found.returncode)


def _dev_requirements() -> list[str]:
    setup = configparser.ConfigParser()
    setup.read("setup.cfg")
    return setup["options.extras_require"]["dev"].split("\n")


def _build_requirements() -> list[str]:
    required: list[str] = tomllib.loads(Path("pyproject.toml").read_text())["build-system"]["requires"]
    return required


if __name__ == "__main__":
    main()
