"""The keys of a machine file and the rules for their values."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from machines_server.inventory.host_address import Host
from machines_server.inventory.path_and_file import FileName, UrlPath
from machines_server.inventory.problem_list import KeyPath

_A_HOST = "a host name or an IP address and nothing else"
_A_PORT = "a port, a whole number from 1 to 65535"
_A_SCHEME = "http or https"
_A_CREDENTIAL = "the name of a file in MACHINES_CREDENTIALS_DIR, such as proxy-token, never the secret itself"
_SERVICES = "a list of mappings, such as {name: grafana, port: 3000}"

_STRICT = ConfigDict(strict=True, extra="allow")
Port = Annotated[int, Field(ge=1, le=65535)]
NonBlankText = Annotated[str, Field(pattern=r"\S")]
Scheme = Literal["http", "https"]


def _card(value: object) -> int | str:
    """Return the index or the UUID of a card; anything else raises ValueError."""
    if (isinstance(value, str) and value.strip()) or (type(value) is int and value >= 0):
        return value
    raise ValueError


Card = Annotated[
    Any,
    PlainValidator(_card),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"\S"}]}),
]


class Hardware(BaseModel):
    """The hardware in the operator's own words; only `gpu` has a rule."""

    model_config = _STRICT

    gpu: list[dict[str, Any]] = Field([], description="a list of mappings, one for each GPU, [] for none")


class Network(BaseModel):
    """The addresses of the machine."""

    model_config = _STRICT

    hostname: Host = Field(description=_A_HOST)
    port: Port = Field(11434, description="the port of Ollama, a whole number from 1 to 65535")
    sidecar_port: Port = Field(3039, description="the port of the sidecar, a whole number from 1 to 65535")
    ollama: bool = Field(default=True, description="true, or false for a host without Ollama")
    sidecar: bool = Field(default=True, description="true, or false for a host on which no sidecar runs")
    gpus: list[Card] = Field(
        default_factory=list,  # not in the JSON Schema: without the key all cards are used
        description="a list of the cards that this Ollama uses, each by its index or UUID",
    )
    scheme: Scheme = Field("http", description=_A_SCHEME)
    path: UrlPath = Field(
        "/", description="a path that a proxy puts before Ollama's, beginning with /, such as /ollama"
    )
    ca: FileName = Field(
        default_factory=str, description="the name of a file in MACHINES_CA_DIR, such as own-ca.pem"
    )
    credential: FileName = Field(default_factory=str, description=_A_CREDENTIAL)
    sidecar_hostname: Host = Field(default_factory=str, description=_A_HOST)
    sidecar_scheme: Scheme = Field("http", description=_A_SCHEME)


class Limits(BaseModel):
    """Limits set by the owner of the machine."""

    model_config = _STRICT

    reserve_vram_gb: float = Field(
        0,
        ge=0,
        le=2**20,
        allow_inf_nan=False,
        description="the GiB to keep free on each card for its owner, 0 or more",
    )
    max_loaded_models: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="the value of OLLAMA_MAX_LOADED_MODELS there, a whole number; 0 if it is not set",
    )
    max_leases: int | None = Field(
        None,
        ge=0,
        le=2**31 - 1,
        description="how many leases it may have at a time, a whole number from 0",
    )


class Service(BaseModel):
    """Another service on the machine."""

    model_config = _STRICT

    name: NonBlankText = Field(default_factory=str, description="a non-empty string, such as grafana")
    port: Port = Field(default_factory=int, description=_A_PORT)
    path: Annotated[str, Field(pattern=r"^/\S*$")] = Field("/", description="a path, such as /health")
    description: str = Field("", description="a string")


class Runtime(BaseModel):
    """One model server."""

    model_config = _STRICT

    name: NonBlankText = Field(default_factory=str, description="a non-empty string, such as vllm-70b")
    kind: NonBlankText = Field(default_factory=str, description="a non-empty string, such as ollama")
    hostname: Host = Field(default_factory=str, description=_A_HOST)
    port: Port = Field(default_factory=int, description=_A_PORT)
    scheme: Scheme = Field("http", description=_A_SCHEME)
    path: UrlPath = Field(
        "/", description="a path that a proxy puts before its own, beginning with /, such as /v1"
    )
    credential: FileName = Field(default_factory=str, description=_A_CREDENTIAL)
    gpus: list[Card] = Field(
        default_factory=list, description="a list of the cards that it uses, each by its index or UUID"
    )
    models: list[NonBlankText] = Field(
        default_factory=list, description="a list of the models that it has here"
    )


class MachineFile(BaseModel):
    """One machine; keys that are not listed here are served as they are written."""

    model_config = ConfigDict(strict=True, extra="allow", title="Machine file")

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or a digit",
    )
    role: str = Field(pattern=r"\S", description="a non-empty string, such as gpu-host")
    hardware: Hardware = Field(description="a mapping, {} if there is nothing to say")
    network: Network = Field(description="a mapping with at least the key hostname")
    models: list[NonBlankText] = Field(description="a list of the models that Ollama has here, [] for none")
    limits: Limits = Field(
        default_factory=lambda: Limits.model_validate({}),
        description="a mapping such as {reserve_vram_gb: 4}",
    )
    services: list[Service] = Field(default_factory=list, description=_SERVICES)
    runtimes: list[Runtime] = Field(
        default_factory=list, description="a list of mappings, one for each model server: {name, kind, port}"
    )


class ServicesFile(BaseModel):
    """The services of the server's own host, as a machine file lists those of its host."""

    model_config = ConfigDict(strict=True, extra="allow")

    services: list[Service] = Field(default_factory=list, description=_SERVICES)


_MODEL_CLASSES: dict[KeyPath, type[BaseModel]] = {
    (): MachineFile,
    ("hardware",): Hardware,
    ("network",): Network,
    ("limits",): Limits,
    ("services", 0): Service,
    ("runtimes", 0): Runtime,
}
_EXPECTED: dict[KeyPath, str] = {
    **{
        (*parent, key): str(field.description)
        for parent, model in _MODEL_CLASSES.items()
        for key, field in model.model_fields.items()
    },
    ("models", 0): "the name of a model, such as llama3.1:70b",
    ("hardware", "gpu", 0): "a mapping, such as {model: 24GB consumer GPU, vram_gb: 24}",
    ("network", "gpus", 0): "the index of a card, such as 0, or its UUID",
    ("services", 0): "a mapping, such as {name: grafana, port: 3000}",
    ("runtimes", 0): "a mapping, such as {name: chat, kind: vllm, port: 8000}",
    ("runtimes", 0, "gpus", 0): "the index of a card, such as 0, or its UUID",
    ("runtimes", 0, "models", 0): "the name of a model, such as llama3.1:70b",
}


def expected(path: KeyPath) -> str | None:
    """What is expected at a key path, for messages; None for the operator's own keys."""
    return _EXPECTED.get(_any_entry(path))


def keys_at(path: KeyPath) -> tuple[str, ...]:
    """The keys that have a meaning in the mapping at a key path."""
    model = _MODEL_CLASSES.get(_any_entry(path))
    return tuple(model.model_fields) if model else ()


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a machine file, for editors; `machines/machine.schema.json` is a copy."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **MachineFile.model_json_schema()}


def _any_entry(path: KeyPath) -> KeyPath:
    return tuple(0 if isinstance(part, int) else part for part in path)
