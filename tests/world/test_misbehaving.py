"""Every way to misbehave, on either endpoint of healthy hosts: only they change, and the reason is shown."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.simulation import simulated
from machines_server.core.machine import Endpoint
from machines_server.core.sample import State
from tests.certificates import authority, signed
from tests.core.machines import BOTH, OLLAMA, SIDECAR
from tests.fakes import FakeEndpoint, FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer
from tests.world.misbehaving import SCRIPT, Misbehaviour, good_answer, harmless, misbehaviours
from tests.world.neighbours import PACE, TIMEOUT_S, Neighbours, assert_said_once

GOOD = 50
WATCHED_CYCLES = 5


def test_whatever_hosts_do_only_they_change_and_it_is_said_why(tmp_path: Path, fakes: FakeFleet) -> None:
    behaviours = misbehaviours(signed(tmp_path, authority(tmp_path), "IP:127.0.0.1"))
    names = {
        f"bad{number}-{endpoint.kind}": (behaviour, endpoint)
        for number, behaviour in enumerate(behaviours)
        for endpoint in BOTH
    }
    machines = tmp_path / "machines"
    with ExitStack() as stack:
        fleet = stack.enter_context(simulated(GOOD))
        fleet.declare(machines)
        turning = []
        for name, (behaviour, endpoint) in names.items():
            bad = behaviour.listen(fakes, endpoint)
            bad.stop()
            well = fakes.listen(good_answer(endpoint, ()), port=bad.port)
            _declare(machines, fakes, name, endpoint, well)
            turning.append((well, bad))
        harmless_hosts = {endpoint: fakes.listen(harmless(endpoint)) for endpoint in BOTH}
        for endpoint, host in harmless_hosts.items():
            _declare(machines, fakes, f"script-{endpoint.kind}", endpoint, host)
        server = stack.enter_context(RunningServer(tmp_path, **PACE))
        wait_until(lambda: {one["status"] for one in server.fleet().values()} == {"online"}, 60)
        # What is on an Ollama's disk is asked later, and a line of its own when that fails.
        wait_until(lambda: sum(well.asked("/api/tags") for well, _ in turning) == len(behaviours))
        with Neighbours(server, [f"host{number}" for number in range(GOOD)]) as good:
            for well, bad in turning:
                well.stop()
                bad.start()
            asked = harmless_hosts[SIDECAR].asked("/metrics")
            wait_until(lambda: harmless_hosts[SIDECAR].asked("/metrics") >= asked + WATCHED_CYCLES, 60)
            try:
                wait_until(lambda: not _all_wrong(server.fleet(), names))
            finally:
                assert _all_wrong(server.fleet(), names) == {}
            seen = server.fleet()
        for endpoint in BOTH:
            machine = seen[f"script-{endpoint.kind}"]
            assert (machine["status"], machine["status_reason"]) == ("online", None)
        assert [gpu["model"] for gpu in seen["script-sidecar"]["telemetry"]["gpu"]] == [SCRIPT]
        assert seen["script-ollama"]["loaded_models"] == [SCRIPT]
        assert [model["name"] for model in seen["script-ollama"]["ollama"]["models"]] == [SCRIPT]
        good.assert_undisturbed()
        log = server.log.read_text()
    for name, (behaviour, endpoint) in names.items():
        lines = [line for line in log.splitlines() if f"machine {name}:" in line]
        if slow := [line for line in lines if _is_of_a_slow_machine(line, behaviour, endpoint)]:
            # The state before it is said again after each.
            log = "\n".join(line for line in log.splitlines() if line not in lines)
            lines = [line for line in lines if line not in slow]
        if behaviour.state is State.OK:  # and it may have been asked just while one stood in for the other
            lines = [line for line in lines if "WARNING" in line]
        assert len(lines) <= 2 + len(slow), (behaviour.name, lines, slow)
        assert len({line.partition(" ")[2] for line in lines}) <= 2, (behaviour.name, lines, slow)
        assert any(f"{endpoint.kind}: " in line for line in lines), (behaviour.name, lines)
    assert_said_once(log)


def _is_of_a_slow_machine(line: str, behaviour: Misbehaviour, endpoint: Endpoint) -> bool:
    """Whether an endpoint missed its deadline that does not do so by its behaviour."""
    late, (well,) = f"within {TIMEOUT_S:g} s", (one for one in BOTH if one is not endpoint)
    return late in line and (late not in behaviour.said(endpoint) or well.kind in line.partition(" (")[2])


def _declare(folder: Path, fakes: FakeFleet, name: str, endpoint: Endpoint, special: FakeEndpoint) -> None:
    """A machine of which one endpoint is special and the other is well."""
    ends = {one: special if one is endpoint else fakes.listen(good_answer(one)) for one in BOTH}
    text = machine_yaml(name, ends[SIDECAR], ends[OLLAMA])
    (folder / f"{name}.yaml").write_text(text)


def _all_wrong(
    fleet: dict[str, dict[str, Any]], names: dict[str, tuple[Misbehaviour, Endpoint]]
) -> dict[str, dict[str, Any]]:
    """What is not as it should be, by behaviour and endpoint."""
    return {
        f"{behaviour.name}, {endpoint.kind}": found
        for name, (behaviour, endpoint) in names.items()
        if (found := _wrong(fleet[name], behaviour, endpoint))
    }


def _wrong(machine: dict[str, Any], behaviour: Misbehaviour, endpoint: Endpoint) -> dict[str, Any]:
    """What is not as it should be."""
    reason, ollama = behaviour.said(endpoint), machine["ollama"]
    is_odd = behaviour.state is State.OK  # in a field or an entry, and all else stands
    if endpoint is OLLAMA:
        good = machine["status"] == "online" and ollama["state"] == behaviour.state
        good &= reason in (ollama["message"] or "") and (is_odd or machine["loaded_models"] == [])
    else:
        good = machine["status"] == ("online" if is_odd else "degraded") and ollama["state"] == State.OK
        good &= machine["loaded_models"] == ["phi3:mini"]
    good &= f"{endpoint.kind}: " in (machine["status_reason"] or "") and reason in machine["status_reason"]
    keys = ("status", "status_reason", "loaded_models")
    return (
        {} if good else {key: machine[key] for key in keys} | {"state": ollama["state"], "expected": reason}
    )
