"""What the name of an operator's key reveals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.core.key_names import closest_key, is_secret, without_secrets
from machines_server.inventory.schema import keys_at

NETWORK, LIMITS = keys_at(("network",)), keys_at(("limits",))
SERVICE, RUNTIME = keys_at(("services", 0)), keys_at(("runtimes", 7))


@pytest.mark.parametrize(
    ("known", "misspelt", "meant"),
    [
        (NETWORK, "Hostname HOSTNAME host Host host-name hostName hostnme hostanme hostnames", "hostname"),
        (NETWORK, "Port ports prot oprt pirt por", "port"),
        (
            NETWORK,
            "sidecar-port sidecarPort sidecar_prot port_sidecar sidcar_port",
            "sidecar_port",
        ),
        (NETWORK, "sidecar_host sidecarHostname sidecar_hostnam", "sidecar_hostname"),
        (NETWORK, "sidecar_schema", "sidecar_scheme"),
        (NETWORK, "Ollama olama llama ollma", "ollama"),
        (NETWORK, "Sidecar side_car sidecars", "sidecar"),
        (NETWORK, "schema sheme Scheme scheem", "scheme"),
        (NETWORK, "Path paht paths", "path"),
        (NETWORK, "CA", "ca"),
        (NETWORK, "credentials credentail Credential", "credential"),
        (NETWORK, "gpu GPUs", "gpus"),
        (LIMITS, "reserve_vram reserved_vram_gb reserveVramGb reserve-vram-gb reserve_gb", "reserve_vram_gb"),
        (LIMITS, "max_models max_loaded max_loaded_model maxLoadedModels", "max_loaded_models"),
        (LIMITS, "max_lease maxLeases max_laeses", "max_leases"),
        (RUNTIME, "Name nmae", "name"),
        (RUNTIME, "kid knid", "kind"),
        (RUNTIME, "model modles", "models"),
        (RUNTIME, "host", "hostname"),
        (SERVICE, "descripton", "description"),
    ],
)
def test_a_key_that_is_nearly_one_of_ours_is_known_for_it(
    known: tuple[str, ...], misspelt: str, meant: str
) -> None:
    assert {key: closest_key(key, known) for key in misspelt.split()} == dict.fromkeys(
        misspelt.split(), meant
    )


@pytest.mark.parametrize(
    ("known", "own"),
    [
        (
            NETWORK,
            "mac ip ipv4 ipv6 vlan notes mtu dns gateway subnet mask domain interface",
        ),
        (NETWORK, "nic speed rack fqdn switch_port ssh_port http_port port_speed path_mtu cpus user vpn url"),
        (LIMITS, "max_tokens max_power_w cpu cpus power notes"),
        (RUNTIME, "mode type node tags version url image notes args env"),
        (SERVICE, "url owner notes icon"),
        (NETWORK, " ".join(NETWORK)),
        (LIMITS, " ".join(LIMITS)),
        (RUNTIME, " ".join(RUNTIME)),
    ],
)
def test_a_key_of_the_operators_is_nobodys_typo(known: tuple[str, ...], own: str) -> None:
    assert [key for key in own.split() if closest_key(key, known)] == []


@given(st.sampled_from([name for name in NETWORK if len(name) > 7]), st.data())
def test_one_letter_left_out_or_doubled_is_seen_wherever_it_is(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 1))
    for key in (name[:at] + name[at + 1 :], name[:at] + name[at] + name[at:]):
        assert key in NETWORK or closest_key(key, NETWORK) == name


SECRETS = """
password Password adminPassword ADMIN_PASSWORD rootpassword password2 db-passwd pass_phrase pwd ipmi_pass
token hf_token HF_TOKEN hfToken APIToken token1 bearer-token api_tokens secret client_secret clientSecret
secrets AWS_SECRET_ACCESS_KEY api_key api-key apiKey APIKey APIKEY api_keys OPENAI_API_KEY x-api-key
private_key privateKey PrivateKey ipmi.password
"""
NO_SECRETS = """
max_tokens maxTokens maxToken max_token tokens tokens_per_s token_count token_limit tokenizer eos_token
max_new_tokens context_tokens secretary secretariat key keys public_key keyboard hotkey credential passthrough
pass_through passwordless_sudo compass bypass api private ssh_port κλειδί name models
"""


@pytest.mark.parametrize("key", [*SECRETS.split(), "api key", "private key", "pass phrase"])
def test_a_key_says_that_it_is_a_secret(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize("key", [*NO_SECRETS.split(), ""])
def test_a_key_that_only_sounds_like_a_secret_is_none(key: str) -> None:
    assert not is_secret(key)


@given(st.text(max_size=40), st.lists(st.sampled_from(NETWORK)))
def test_any_key_has_an_answer(key: str, known: list[str]) -> None:
    assert closest_key(key, known) in (None, *known)
    assert is_secret(key) in (True, False)


def test_what_is_below_a_secret_key_is_left_out_at_any_depth() -> None:
    value = {"a": [{"b": 1, "apiKey": "x"}, 2], "secrets": {"c": 3}, "d": None}
    assert without_secrets(value) == {"a": [{"b": 1}, 2], "d": None}
