"""Makes a question look like a method, for `help()` and editors."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_type_hints

AMethod = TypeVar("AMethod", bound=Callable[..., Any])


def shown_as(question: Callable[..., Any]) -> Callable[[AMethod], AMethod]:
    """A decorator that gives a method the name, the docstring and the keywords of a question."""

    def decorate(method: AMethod) -> AMethod:
        functools.update_wrapper(method, question)
        method.__signature__ = _signature(question)  # type: ignore[attr-defined]  # inspect looks for it
        return method

    return decorate


def _signature(question: Callable[..., Any]) -> inspect.Signature:
    """That of a question with `self` for its session, its options one by one, and what its flow returns."""
    hints = get_type_hints(question)
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for one in list(inspect.signature(question).parameters.values())[1:]:
        if one.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters.append(one.replace(annotation=hints[one.name]))
            continue
        (options,) = get_args(hints[one.name])
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
            for name, hint in get_type_hints(options).items()
        ]
    (*_, result) = get_args(hints["return"])
    return inspect.Signature(parameters, return_annotation=result)
