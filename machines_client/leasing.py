"""Checks which functions `leased` can decorate: those whose work is done when their call returns."""

import inspect
from collections.abc import Callable


def check_model(model: object) -> None:
    """Raise TypeError if `leased` itself is used as a decorator."""
    if callable(model):
        raise TypeError('leased takes the name of a model: @client.leased("llama3.1:70b")')


def check_function(function: object) -> None:
    """Raise TypeError for what `leased` of a Client cannot decorate."""
    name = _name_without_generators(function)
    if _is(inspect.iscoroutinefunction, function):
        raise TypeError(
            f"{name} is a coroutine function: use AsyncClient().leased, or `with client.lease(...)`"
        )


def check_coroutine_function(function: object) -> None:
    """Raise TypeError for what `leased` of an AsyncClient cannot decorate."""
    name = _name_without_generators(function)
    # Another decorator may have made it a function that returns a coroutine.
    if not _is(inspect.iscoroutinefunction, inspect.unwrap(function)):  # type: ignore[arg-type]  # it is callable
        raise TypeError(
            f"{name} is not a coroutine function: use Client().leased, or `async with client.lease(...)`"
        )


def _name_without_generators(function: object) -> str:
    """The name of a function; raises TypeError for one whose work goes on after its call has returned."""
    if not callable(function):
        raise TypeError(f"leased decorates a function, not {function!r}")
    name = getattr(function, "__qualname__", None) or repr(function)
    if _is(inspect.isgeneratorfunction, function):
        raise TypeError(f"{name} is a generator: use `with client.lease(...)` of a Client in it, not leased")
    if _is(inspect.isasyncgenfunction, function):
        advice = "use `async with client.lease(...)` of an AsyncClient in it, not leased"
        raise TypeError(f"{name} is an asynchronous generator: {advice}")
    return str(name)


def _is(kind: Callable[[object], bool], function: object) -> bool:
    """Whether a function, or the method that makes an object callable, is of a kind."""
    return kind(function) or kind(inspect.getattr_static(type(function), "__call__"))
