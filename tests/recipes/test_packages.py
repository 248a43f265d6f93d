"""The recipes for other packages, each in an environment of its own into which they are installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme import ROOT
from tests.recipes.running import LLAMA, RECIPES, SCATTERED, Fleet

BLUE = "Why is the sky blue?"
NO_INDEX = ("client error (Connect)", "Network connectivity is disabled")
"""What uv says if it cannot reach a package index, or may not."""


def python_with(folder: Path, *packages: str) -> Path:
    """The Python of a new environment with our client and `packages`."""
    client = folder / "machines_client"  # a copy, since a build leaves files beside its sources
    shutil.copytree(ROOT / "machines_client", client)
    python = folder / "environment" / "bin" / "python"
    _uv("venv", "--python", sys.executable, str(folder / "environment"))
    _uv("pip", "install", "--python", str(python), str(client), *packages)
    return python


def _uv(*words: str) -> None:
    """Run uv; the test is skipped where there is no package index."""
    done = subprocess.run(
        [sys.executable, "-m", "uv", "--quiet", *words], capture_output=True, text=True, check=False
    )
    if any(reason in done.stderr for reason in NO_INDEX):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "package", "path", "prompt"),
    [
        ("ollama_client.py", "ollama==0.6.3", "/api/chat", BLUE),
        ("openai_client.py", "openai==3.57.0", "/v1/chat/completions", BLUE),
        ("langchain_chat.py", "langchain-ollama==1.1.0", "/api/chat", f"Explain in one sentence: {BLUE}"),
        ("litellm_completion.py", "litellm==1.110.2", "/api/chat", BLUE),
    ],
)
def test_a_package_sends_its_job_to_the_machine_of_a_lease(
    fleet: Fleet, tmp_path: Path, name: str, package: str, path: str, prompt: str
) -> None:
    environment = {
        "PYTHONWARNINGS": "",  # those of other packages are not ours
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # instead of one that it downloads
    }
    assert fleet.run(python_with(tmp_path, package), RECIPES / name, **environment) == f"{SCATTERED}\n"
    (job,) = fleet.workstation.jobs
    assert (job.path, job.model, job.prompt) == (path, LLAMA, prompt)
    assert len(job.holders) == 1
