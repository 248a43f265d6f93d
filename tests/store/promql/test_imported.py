"""A server outside a cluster imports none of this, and needs none of its packages."""

import subprocess
import sys

from tests.running import clean_environment

CODE = """
import sys
from machines_server.process.compose import make_app
from machines_server.settings import load_settings
make_app(load_settings({})[0])
print([name for name in sys.modules if name.startswith(("machines_server.store.promql", "cramjam"))])
"""


def test_a_server_alone_does_not_import_it() -> None:
    words = [sys.executable, "-W", "error", "-c", CODE]
    done = subprocess.run(words, capture_output=True, text=True, env=clean_environment(), check=True)
    assert done.stdout == "[]\n"
