"""The page says, below all else, what is open or unsafe about its server."""

from pathlib import Path

from playwright.sync_api import expect

from tests.page.conftest import Look
from tests.running import RunningServer

OPEN = "MACHINES_HOST=0.0.0.0 can be reached from other machines"


def test_an_open_server_is_said_quietly(tmp_path: Path, look: Look) -> None:
    with RunningServer(tmp_path, MACHINES_HOST="0.0.0.0") as server:
        watched = look(server)
        page = watched.open()
        expect(page.get_by_label("Warnings")).to_contain_text(OPEN)
        page.get_by_role("link", name="Events").click()
        expect(page.get_by_label("Warnings")).to_contain_text(OPEN)
        page.close()


def test_a_server_for_this_machine_alone_is_not(shared_server: RunningServer, look: Look) -> None:
    warnings = shared_server.get("/health").json()["warnings"]
    page = look(shared_server).open()
    with page.expect_response("**/health"):
        pass
    expect(page.get_by_label("Warnings").locator("p")).to_have_text(warnings)
    assert OPEN not in str(warnings)
