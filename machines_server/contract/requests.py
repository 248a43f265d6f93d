"""The parameters of routing requests, validated from a query or from JSON."""

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from machines_server.contract.lists import REPEATABLE, list_values
from machines_server.core.key_names import is_secret
from machines_server.core.routing.question import Question, text_of
from machines_server.core.text import is_plain
from machines_server.errors import BadParameterError

MAX_MEMORY_GB = 2**20
MAX_CONTEXT_TOKENS = 2**40
MAX_TEXT_CHARACTERS = 512
"""The limit for each text of a request."""
MAX_TTL_S = 3600
MAX_WAIT_S = 60.0
MAX_HOLDER_CHARACTERS = 200
_BYTES_PER_TEXT, _BYTES_PER_CHARACTER = 80, 4
"""The most memory that a text takes."""

Parameters = TypeVar("Parameters", bound=BaseModel)
ShortText = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]


def _as_list(value: object) -> object:
    """Wrap a single text in a list."""
    return [value] if isinstance(value, str) else value


def _as_names(value: object) -> object:
    """A list of names, from texts that may have several separated by commas."""
    texts = _as_list(value)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return texts
    return list_values("exclude", texts)


def _as_conditions(value: object) -> object:
    """Turn a mapping of paths to values into a list of `path:value`."""
    if not isinstance(value, Mapping):
        return _as_list(value)
    if any(isinstance(one, Mapping | list) for one in value.values()):
        raise ValueError("the value of each path must be a string, a number, true, false or null")
    return [f"{path}:{text_of(one)}" for path, one in value.items()]


def _condition(text: object) -> object:
    path, colon, wanted = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not path or not colon:
        raise ValueError("use key.path:value, such as site:warsaw")
    if max(len(path), len(wanted)) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"path and value may have {MAX_TEXT_CHARACTERS} characters each")
    if any(map(is_secret, (path, *path.split(".")))):
        raise ValueError("the path names a secret, on which answers never depend; use another key")
    return path, wanted


Condition = Annotated[
    tuple[str, str],
    BeforeValidator(_condition),
    WithJsonSchema({"type": "string", "pattern": "^[^:]+:", "examples": ["site:warsaw"]}),
]


def _plain(value: object) -> object:
    """Refuse texts that are numbers in Python alone, such as 1_000."""
    if isinstance(value, str) and not is_plain(value):
        raise ValueError("use a number such as 8 or 2.5")
    return value


Number = Annotated[float, BeforeValidator(_plain)]
Whole = Annotated[int, BeforeValidator(_plain)]


class Constraints(BaseModel):
    """The requested model, and what a machine must have to be fit for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ShortText | None = None
    """A name as Ollama takes it. Without one, machines are ranked by the other parameters alone."""
    min_free_vram_gb: Number = Field(0, ge=0, le=MAX_MEMORY_GB, allow_inf_nan=False)
    """GiB free on one GPU, in addition to the model and all leases."""
    min_free_ram_gb: Number = Field(0, ge=0, le=MAX_MEMORY_GB, allow_inf_nan=False)
    """GiB of RAM free, in addition to the model and all leases."""
    min_context: Whole = Field(0, ge=0, le=MAX_CONTEXT_TOKENS)
    """Tokens that the model must have room for; one loaded with fewer counts as half warm."""
    role: str | None = Field(None, max_length=MAX_TEXT_CHARACTERS)
    """The machine's role."""
    tag: Annotated[list[ShortText], BeforeValidator(_as_list)] = Field([], max_length=100)
    """Tags that the machine must have, all of them."""
    exclude: Annotated[list[ShortText], BeforeValidator(_as_names)] = Field([], max_length=10_000)
    """Names of machines that are not to be used."""
    where: Annotated[list[Condition], BeforeValidator(_as_conditions)] = Field([], max_length=100)
    """`key.path:value` of the machine's file, such as `site:warsaw`; all must match."""
    cold: bool = False
    """Whether to accept a machine that must load the model first."""
    exclusive: bool = False
    """Whether the machine's host must have no other leases."""
    wait_s: Number = Field(0, ge=0, le=MAX_WAIT_S, allow_inf_nan=False)
    """How many seconds to wait until a machine is fit."""

    def question(self) -> Question:
        """These parameters as a question."""
        return Question(
            model=self.model or "",
            min_free_vram_gb=self.min_free_vram_gb,
            min_free_ram_gb=self.min_free_ram_gb,
            min_context=self.min_context,
            role=self.role or None,
            tags=tuple(self.tag),
            exclude=frozenset(name.casefold() for name in self.exclude),
            where=tuple(self.where),
            cold=self.cold,
            exclusive=self.exclusive,
        )

    def size_bytes(self) -> int:
        """The most memory that the texts of the question take."""
        conditions = (text for condition in self.where for text in condition)
        texts = (self.model or "", self.role or "", *self.tag, *self.exclude, *conditions)
        return sum(_BYTES_PER_TEXT + _BYTES_PER_CHARACTER * len(text) for text in texts)


class RouteParameters(Constraints):
    """The query of GET /api/route."""

    holder: str = Field("", max_length=MAX_HOLDER_CHARACTERS)
    """Who asks; for a moment, the same question from the same holder gets the same machine again."""
    explain: bool = False
    """Whether to ask for information only: the answer does not affect later answers."""


class LeaseParameters(Constraints):
    """The body of POST /api/leases."""

    model: ShortText
    """A name as Ollama takes it."""
    ttl_s: float = Field(60, ge=1, le=MAX_TTL_S, allow_inf_nan=False)
    """How many seconds the lease lasts unless it is renewed."""
    holder: str = Field("", max_length=MAX_HOLDER_CHARACTERS)
    """The lease's owner, for people."""

    def digest(self) -> bytes:
        """A digest that is equal for equal requests."""
        text = json.dumps(self.model_dump(exclude={"wait_s"}), sort_keys=True)
        return hashlib.sha256(text.encode()).digest()


class RenewParameters(BaseModel):
    """The body of POST /api/leases/LEASE/renew, which may be empty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttl_s: float | None = Field(None, ge=1, le=MAX_TTL_S, allow_inf_nan=False)
    """How many seconds the lease lasts from now on; without it the lease keeps its own."""


def route_parameters(query: Mapping[str, list[str]]) -> RouteParameters:
    """The parameters in a query, ignoring empty ones except for `model`; raises BadParameterError."""
    given: dict[str, object] = {}
    for name, texts in query.items():
        found = list_values(name, texts)
        if not found and name == "model":
            raise BadParameterError("model", "is empty; leave it out to ask for any machine")
        if not found:
            continue
        if name not in REPEATABLE and len(found) > 1:
            raise BadParameterError(name, "is given more than once")
        given[name] = found if name in REPEATABLE else found[0]
    return validated(RouteParameters, given, strict=False)


def validated(kind: type[Parameters], values: object, *, strict: bool = True) -> Parameters:
    """Validate parameters; raises BadParameterError for the first invalid one.

    None is the same as leaving a parameter out. Unless `strict`, a number may be given as text.
    """
    if isinstance(values, Mapping):  # null is the same as leaving a parameter out
        values = {name: value for name, value in values.items() if value is not None}
    try:
        return kind.model_validate(values, strict=strict)
    except ValidationError as error:
        # Unknown parameters come first: a misspelt name is why another one is missing.
        first = min(error.errors(include_url=False), key=lambda failure: failure["type"] != "extra_forbidden")
        name = str(first["loc"][0]) if first["loc"] else "body"
        similar = get_close_matches(name, kind.model_fields) if first["type"] == "extra_forbidden" else ()
        raise BadParameterError(name, _explanation(first["type"], first["msg"], kind), similar) from None


def _explanation(error_type: str, message: str, kind: type[BaseModel]) -> str:
    if error_type == "missing":
        return "is missing"
    if error_type == "extra_forbidden":
        return f"is not known; use {', '.join(kind.model_fields)}"
    if error_type in ("model_type", "model_attributes_type"):
        return "is not a JSON object"
    message = message.removeprefix("Value error, ")
    return f"cannot be used: {message[:1].lower()}{message[1:]}"
