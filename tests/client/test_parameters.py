"""Every parameter has one name, in HTTP, in Python and on the command line, and none is ignored."""

import json
import math
from collections.abc import Callable, Generator
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast, get_type_hints
from urllib.parse import parse_qs, urlsplit

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_client import AsyncClient, BadRequest, Client
from machines_client import parameters as p
from machines_client.flows import Flow, Send, Session
from machines_client.messages import Request
from machines_client.reading import availability, events, history, models
from machines_client.routing import pick, reserve, route
from machines_server.cli.pick import pick as pick_command
from machines_server.contract.history_queries import (
    AvailabilityQuery,
    EventsQuery,
    ModelsQuery,
    SeriesQuery,
    read_query,
)
from machines_server.contract.requests import (
    LeaseParameters,
    RenewParameters,
    RouteParameters,
    route_parameters,
    validated,
)
from machines_server.errors import BadParameterError

SESSION = Session.of("http://127.0.0.1:3038", 10, 0, None)


def first_request(flow: Flow[Any]) -> Request:
    step = next(cast(Generator[Any, Any, Any], flow))
    assert isinstance(step, Send)
    return step.request


def query_of(request: Request) -> dict[str, list[str]]:
    return parse_qs(
        urlsplit(request.target).query, keep_blank_values=True, strict_parsing=bool(request.query)
    )


def test_http_python_and_the_command_line_have_the_same_names() -> None:
    assert set(RouteParameters.model_fields) == set(p.ROUTE)
    assert set(LeaseParameters.model_fields) == set(p.LEASE)
    assert set(RenewParameters.model_fields) == set(p.RENEW)
    assert set(get_type_hints(p.RouteOptions)) == set(p.ROUTE) - {"model"}
    assert set(get_type_hints(p.LeaseOptions)) == set(p.LEASE) - {"model"}
    alone = {"server", "as_json", "lease", "command_words", "kill_on_loss"}
    of_the_command = {one.name for one in pick_command.params} - alone
    assert of_the_command == set(p.ROUTE) | set(p.LEASE)
    flags = {word for one in pick_command.params if isinstance(one, click.Option) for word in one.opts}
    assert {f"--{name.replace('_', '-')}" for name in of_the_command - {"model"}} <= flags


def test_questions_about_the_past_have_the_names_of_http() -> None:
    for query, options, table in (
        (ModelsQuery, p.RangeOptions, p.RANGE),
        (AvailabilityQuery, p.RangeOptions, p.RANGE),
        (SeriesQuery, p.SeriesOptions, p.SERIES),
        (EventsQuery, p.EventOptions, p.EVENTS),
    ):
        names = set(query.__struct_encode_fields__) - {"format"}
        assert set(table) == names
        assert {name.rstrip("_") for name in get_type_hints(options)} == set(table)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
TEXTS = TEXT | st.lists(TEXT, max_size=3)
NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
NAMES = NAME | st.lists(NAME, max_size=3)
NUMBER = st.floats(0, 2**20) | st.integers(0, 2**20)
PATH = st.sampled_from(["site", "hardware.gpu.vram_gb", "a.b"])
SCALAR = TEXT | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.none()
CONSTRAINTS: dict[str, st.SearchStrategy[Any]] = {
    "min_free_vram_gb": NUMBER,
    "min_free_ram_gb": NUMBER,
    "min_context": st.integers(0, 2**40),
    "role": TEXT,
    "tag": TEXTS,
    "exclude": NAMES,
    "where": st.dictionaries(PATH, SCALAR, max_size=2)
    | st.lists(st.builds("{}:{}".format, PATH, TEXT), max_size=2),
    "cold": st.booleans(),
    "exclusive": st.booleans(),
    "holder": TEXT,
    "wait_s": st.floats(0.1, 60),
}
ROUTE = st.fixed_dictionaries({"model": TEXT}, optional={**CONSTRAINTS, "explain": st.booleans()})
LEASE = st.fixed_dictionaries({"model": TEXT}, optional={**CONSTRAINTS, "ttl_s": st.floats(1, 3600)})


def as_read(name: str, value: Any) -> Any:
    """What a server that ignores nothing makes of a keyword's value."""
    if name in ("tag", "exclude"):
        return [value] if isinstance(value, str) else value
    if name == "where":
        texts = (
            [f"{path}:{one if isinstance(one, str) else json.dumps(one)}" for path, one in value.items()]
            if isinstance(value, dict)
            else value
        )
        return [tuple(text.split(":", 1)) for text in texts]
    return value


def assert_nothing_is_lost(options: dict[str, Any], read: Any) -> None:
    assert read.wait_s == pytest.approx(options.get("wait_s", 0), abs=1)  # time has passed
    for name in set(options) - {"wait_s"}:
        assert getattr(read, name) == as_read(name, options[name]), name


@given(ROUTE)
def test_no_keyword_of_advice_is_lost_on_its_way(options: dict[str, Any]) -> None:
    for ask in (route, pick):
        query = query_of(first_request(ask(SESSION, **options)))
        assert_nothing_is_lost(options, route_parameters(query))


@given(LEASE)
def test_no_keyword_of_a_lease_is_lost_on_its_way(options: dict[str, Any]) -> None:
    body = json.loads(first_request(reserve(SESSION, **options)).content or b"")
    assert_nothing_is_lost(options, validated(LeaseParameters, body))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "machine": NAMES,
            "type": NAMES,
            "limit": st.integers(1, 10_000),
            "after": st.integers(0, 2**62),
            "from_": st.floats(0, 2**32) | st.sampled_from(["-24h", "now"]),
            "to": st.datetimes(timezones=st.just(UTC)),
        },
    )
)
def test_no_keyword_of_events_is_lost_on_its_way(options: dict[str, Any]) -> None:
    query = query_of(first_request(events(SESSION, **options)))
    read = read_query(EventsQuery, query.items())
    for name, value in options.items():
        if name in ("machine", "type"):
            assert getattr(read, name) == tuple([value] if isinstance(value, str) else value)
        else:
            text = value.isoformat() if isinstance(value, datetime) else str(value)
            assert getattr(read, name) == text


QUESTIONS: dict[str, Callable[..., Flow[Any]]] = {
    "route": route,
    "pick": pick,
    "reserve": lambda session, **options: reserve(session, "m", **options),
    "events": events,
    "models": models,
    "history": lambda session, **options: history(session, "box", **options),
    "availability": lambda session, **options: availability(session, "box", **options),
}
KNOWN = {*p.ROUTE, *p.LEASE, *p.SERIES, *p.EVENTS, "from_", "session", "connect_timeout_s", "name"}
UNKNOWN = st.from_regex("[a-z_]{1,20}", fullmatch=True).filter(lambda name: name not in KNOWN)


@given(st.sampled_from(sorted(QUESTIONS)), UNKNOWN, SCALAR)
def test_a_keyword_that_does_not_exist_is_a_type_error_even_if_it_is_none(
    question: str, name: str, value: object
) -> None:
    with pytest.raises(TypeError, match=name):
        QUESTIONS[question](SESSION, **{name: value})


@given(UNKNOWN, TEXT)
def test_a_parameter_that_does_not_exist_is_refused_by_the_server(name: str, value: str) -> None:
    with pytest.raises(BadParameterError, match=name):
        route_parameters({"model": ["m"], name: [value]})
    with pytest.raises(BadParameterError, match=name):
        validated(LeaseParameters, {"model": "m", name: value})
    for query in (EventsQuery, SeriesQuery, AvailabilityQuery, ModelsQuery):
        with pytest.raises(BadParameterError, match=name):
            read_query(query, [(name, [value])])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("min_vram", "min_free_vram_gb"),
        ("tags", "tag"),
        ("wait", "wait_s"),
        ("min_ram_gb", "min_free_ram_gb"),
        ("connect_timeout", "connect_timeout_s"),
    ],
)
def test_the_nearest_keyword_is_named(wrong: str, right: str) -> None:
    ours: Any = {wrong: 5}
    for ask in (Client("127.0.0.1:1").pick, Client("127.0.0.1:1").lease):
        with pytest.raises(TypeError, match=f"unknown keyword {wrong}; did you mean {right}\\?"):
            ask("m", **ours)


@pytest.mark.parametrize(
    ("ask", "wrong", "said"),
    [
        ("reserve", "explain", "explain; it is only for advice"),
        ("lease", "explain", "explain; it is only for advice"),
        ("pick", "ttl_s", "ttl_s; it is only for leases"),
        ("route", "on_lost", "on_lost; it is only for lease"),
        ("route", "connect_timeout_s", "it is only for pick, lease"),
        ("pick", "timeout_s", "timeout_s; it is an argument of Client"),
        ("pick", "timeout", "timeout; timeout_s is an argument of Client"),
        ("pick", "num_ctx", "did you mean min_context"),
        ("lease", "ttl", "did you mean ttl_s"),
        ("history", "since", "since; did you mean from_"),
        ("history", "start", "start; did you mean from_"),
        ("history", "until", "until; did you mean to"),
        ("history", "end", "end; did you mean to"),
        ("availability", "retries", "retries; it is an argument of Client"),
    ],
)
def test_a_keyword_of_another_question_or_another_word_for_one_is_explained(
    ask: str, wrong: str, said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        getattr(Client("127.0.0.1:1"), ask)("m", **{wrong: None})


def test_all_keywords_are_named_if_none_is_near() -> None:
    with pytest.raises(TypeError, match="use from_, to"):
        models(SESSION, **cast(Any, {"qqqqqq": 1}))


@pytest.mark.parametrize(
    "options",
    [
        {"cold": "no"},
        {"exclusive": 1},
        {"min_context": 1.5},
        {"min_context": True},
        {"min_free_vram_gb": "4"},
        {"role": ["a"]},
        {"tag": 5},
        {"tag": b"gpu"},
        {"tag": {"gpu": True}},
        {"exclude": [1]},
        {"where": {"a": {"b": "c"}}},
        {"where": {1: "x"}},
        {"model": 5},
    ],
)
def test_a_value_of_a_wrong_type_is_a_type_error(options: Any) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        route(SESSION, **options)


@pytest.mark.parametrize(
    "moment",
    [datetime(2026, 11, 28), date(2026, 11, 28), timedelta(hours=-1), True, b"-24h"],  # noqa: DTZ001  that is the point
)
def test_a_time_without_a_zone_or_none_at_all_is_a_type_error(moment: Any) -> None:
    with pytest.raises(
        TypeError, match="from_ must be a datetime with a time zone, epoch seconds, or a string"
    ):
        models(SESSION, from_=moment)


@pytest.mark.parametrize("name", ["min_free_vram_gb", "min_free_ram_gb", "wait_s"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_a_number_that_is_not_finite_is_refused(name: str, value: float) -> None:
    for ask in (route, reserve):
        with pytest.raises(BadRequest, match=f"{name} is not a finite number") as caught:
            ask(SESSION, "m", **cast(Any, {name: value}))
        assert caught.value.parameter == name


def test_a_negative_time_to_wait_is_refused_in_the_words_of_the_server() -> None:
    with pytest.raises(BadParameterError) as theirs:
        route_parameters({"model": ["m"], "wait_s": ["-1"]})
    for ask in (lambda: route(SESSION, "m", wait_s=-1), lambda: events(SESSION, wait_s=-1)):
        with pytest.raises(BadRequest) as ours:
            ask()
        assert (str(ours.value), ours.value.parameter) == (f"{theirs.value}", "wait_s")


def test_a_lease_needs_a_model() -> None:
    client, none = Client("127.0.0.1:1"), cast(Any, None)
    for ask in (client.lease, client.reserve):
        with pytest.raises(BadRequest, match="A lease needs the name of a model") as caught:
            ask("")
        assert caught.value.parameter == "model"
        with pytest.raises(TypeError, match="A lease needs the name of a model"):
            ask(none)


@pytest.mark.parametrize(
    "options", [{"model": ""}, {"role": ""}, {"tag": ""}, {"exclude": ["a", ""]}, {"where": {"a:b": 1}}]
)
def test_an_empty_text_is_refused_since_it_would_constrain_nothing(options: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        route(SESSION, **options)
    assert caught.value.parameter == next(iter(options))


@pytest.mark.parametrize("options", [{"from_": ""}, {"metric": ["up", ""]}, {"gpu": ""}, {"step": ""}])
def test_an_empty_text_about_the_past_is_refused_as_well(options: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        next(cast(Generator[Any, Any, Any], history(SESSION, "box", **options)))
    assert caught.value.parameter == next(iter(options))


def test_both_clients_have_the_same_methods() -> None:
    own = {"aclose", "ask"}
    assert {one for one in dir(Client) if one[0] != "_"} | own == {
        one for one in dir(AsyncClient) if one[0] != "_"
    }
