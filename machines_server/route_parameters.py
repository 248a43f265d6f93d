"""What can be asked of routing, read from a query or from JSON and checked."""

import json
from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from machines_server.core.advice import Ask, as_text
from machines_server.errors import BadParameterError

MAX_VRAM_GB = 2**20
REPEATABLE = ("tag", "exclude", "where")
Parameters = TypeVar("Parameters", bound=BaseModel)
Text = Annotated[str, Field(min_length=1, max_length=512)]


def _many(value: object) -> object:
    """One text is a list of one."""
    return [value] if isinstance(value, str) else value


def _conditions(value: object) -> object:
    """A mapping of paths is the list of its `path:value`."""
    if isinstance(value, Mapping):
        return [f"{path}:{as_text(one)}" for path, one in value.items()]
    return _many(value)


def _condition(text: object) -> object:
    path, colon, wanted = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not path or not colon:
        raise ValueError("use key.path:value, such as site:warsaw")
    return path, wanted


Condition = Annotated[tuple[str, str], BeforeValidator(_condition)]


class RouteParameters(BaseModel):
    """The question of `GET /api/route`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Text
    min_free_vram_gb: float = Field(0, ge=0, le=MAX_VRAM_GB, allow_inf_nan=False)
    min_context: int = Field(0, ge=0, le=2**40)
    role: str | None = Field(None, max_length=512)
    tag: Annotated[list[Text], BeforeValidator(_many)] = Field([], max_length=100)
    exclude: Annotated[list[Text], BeforeValidator(_many)] = Field([], max_length=10_000)
    where: Annotated[list[Condition], BeforeValidator(_conditions)] = Field([], max_length=100)
    cold: bool = False

    def ask(self) -> Ask:
        """The same as the router takes it."""
        return Ask(
            model=self.model,
            min_free_vram_gb=self.min_free_vram_gb,
            min_context=self.min_context,
            role=self.role or None,
            tags=tuple(self.tag),
            exclude=frozenset(name.casefold() for name in self.exclude),
            where=tuple(self.where),
            cold=self.cold,
        )


class LeaseParameters(RouteParameters):
    """The body of `POST /api/leases`."""

    ttl_s: float = Field(60, ge=1, le=3600, allow_inf_nan=False)
    holder: str = Field("", max_length=200)

    def text(self) -> str:
        """The same for the same request."""
        return json.dumps(self.model_dump(), sort_keys=True)


class RenewParameters(BaseModel):
    """The body of `POST /api/leases/ID/renew`; without `ttl_s` the lease's own is taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttl_s: float | None = Field(None, ge=1, le=3600, allow_inf_nan=False)


def from_query(values: Mapping[str, list[str]]) -> RouteParameters:
    """A query's parameters; an empty one is as if it was not given. Raises BadParameterError."""
    given = {name: [text for text in texts if text] for name, texts in values.items()}
    for name, texts in given.items():
        if name not in REPEATABLE and len(texts) > 1:
            raise BadParameterError(name, "is given more than once")
    return checked(
        RouteParameters,
        {name: texts if name in REPEATABLE else texts[0] for name, texts in given.items() if texts},
        strict=False,
    )


def checked(kind: type[Parameters], values: object, *, strict: bool = True) -> Parameters:
    """Those parameters; raises BadParameterError for the first that cannot be used.

    Unless `strict` a text may stand for a number, as it must in a query.
    """
    try:
        return kind.model_validate(values, strict=strict)
    except ValidationError as error:
        # What is not known comes first: a misspelt name is why another one is missing.
        first = min(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
        name = str(first["loc"][0]) if first["loc"] else "body"
        raise BadParameterError(name, _why(first["type"], first["msg"], kind)) from None


def _why(what: str, message: str, kind: type[BaseModel]) -> str:
    if what == "missing":
        return "is missing"
    if what == "extra_forbidden":
        return f"is not known; use {', '.join(kind.model_fields)}"
    if what in ("model_type", "model_attributes_type"):
        return "is not a JSON object"
    message = message.removeprefix("Value error, ")
    return f"cannot be used: {message[:1].lower()}{message[1:]}"
