"""Two files that describe one host are reported."""

from dataclasses import replace

from machines_server.core.machine import Endpoint, Machine
from machines_server.core.same_host import same_cards, same_endpoints
from machines_server.core.sample import GIB, GpuSample
from machines_server.core.state import MachineState
from machines_server.core.status import Status
from tests.core.machines import a_machine
from tests.core.routing.fleets import a_live


def test_two_files_with_one_sidecar_or_one_ollama_are_told_once_and_both_are_named() -> None:
    first = a_machine("a", hostname="box.lan", port=1)
    (sidecar,) = same_endpoints([first, a_machine("b", hostname="BOX.lan.", port=2)])
    assert (sidecar.file, sidecar.key, sidecar.severity) == ("b.yaml", "network.hostname", "warning")
    assert (
        "a.yaml and b.yaml describe one host: both have the sidecar at BOX.lan. port 3039" in sidecar.message
    )
    (ollama,) = same_endpoints([first, a_machine("c", hostname="box.lan", port=1)])
    assert "a.yaml and c.yaml describe one host: both have the ollama at box.lan port 1" in ollama.message


def test_spellings_of_one_address_are_one_address() -> None:
    for one, other in (("::1", "0:0::1"), ("localhost", "127.0.0.1"), ("LOCALHOST", "::1")):
        assert [*same_endpoints([a_machine("a", hostname=one), a_machine("b", hostname=other)])]


def test_other_hosts_and_endpoints_that_are_not_there_are_not_told() -> None:
    machines = [
        a_machine("a", hostname="one.lan", port=1, sidecar_port=2),
        a_machine("b", hostname="two.lan", port=1, sidecar_port=2),
        a_machine("c", hostname="one.lan", port=3, sidecar_port=2, has_sidecar=False),
        a_machine("d", hostname="one.lan", port=1, sidecar_port=4, has_ollama=False),
    ]
    assert [*same_endpoints(machines)] == []


def seen(name: str, *uuids: str, **changes: object) -> MachineState:
    live = a_live(name, (), hostname=f"{name}.lan")
    gpus = (GpuSample(at, uuid, None, "dedicated", GIB, 0, GIB) for at, uuid in enumerate(uuids))
    assert live.host
    return replace(live, host=replace(live.host, gpu=tuple(gpus)), **changes)  # type: ignore[arg-type]  # any field


def test_two_hosts_that_show_one_card_are_told_once() -> None:
    (told,) = same_cards([seen("b", "GPU-x", "GPU-y"), seen("a", "GPU-x", "GPU-y"), seen("c", "GPU-z")])
    assert told.file == "b.yaml"
    assert "a.yaml and b.yaml describe one host: both report the GPU GPU-x" in told.message


def test_a_card_that_a_host_showed_before_it_went_away_may_have_moved() -> None:
    gone = seen("a", "GPU-x")
    gone = replace(gone, verdict=gone.verdict._replace(status=Status.OFFLINE))
    assert same_cards([gone, seen("b", "GPU-x")]) == ()


def test_what_the_endpoints_tell_is_not_told_twice() -> None:
    one, other = seen("a", "GPU-x"), seen("b", "GPU-x")
    other = replace(other, machine=a_machine("b", hostname="a.lan"))
    assert same_cards([one, other]) == ()


def test_two_ollamas_below_different_paths_of_a_proxy_are_two() -> None:
    def behind(name: str, prefix: str) -> Machine:
        ollama = Endpoint("ollama", "proxy.lan", 443, scheme="https", prefix=prefix)
        return a_machine(name, endpoints={"ollama": ollama})

    assert [*same_endpoints([behind("a", "/one"), behind("b", "/other")])] == []
    (shared,) = same_endpoints([behind("a", "/one"), behind("b", "/one")])
    assert "both have the ollama at proxy.lan port 443 below /one" in shared.message
