"""Questions that no machine fits: what to change in them, and which machines may become fit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from machines_server.contract.routing import reason_text
from machines_server.core.model_names import canonical, model_key
from machines_server.core.routing.answer import Ranking, Rejection, RejectionCode
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.question import Question
from machines_server.core.routing.ranking import CURED_BY_LOADING
from machines_server.core.routing.similar_names import similar_names
from machines_server.core.text import clip, clip_list
from machines_server.errors import BadParameterError, NoMachineError

NEAR_MISSES = 3
"""How many reasons the message names when no machine is fit."""
MAX_CONCERNED = 20
"""How many machines are polled at once because none is fit."""
_NOT_POLLED_AT_ONCE = {
    RejectionCode.WHERE,
    RejectionCode.TAG,
    RejectionCode.ROLE,
    RejectionCode.MODEL_NOT_THERE,
    RejectionCode.NO_OLLAMA,
    RejectionCode.EXCLUDED,
    # A machine that does not answer would hold up the polls of those that do.
    RejectionCode.OFFLINE,
    RejectionCode.OLLAMA_UNREACHABLE,
}


def may_become_fit(rejected: Sequence[Rejection]) -> list[str]:
    """The machines that answer and that polling may show to be fit, nearest miss first."""
    return [one.name for one in rejected if one.code not in _NOT_POLLED_AT_ONCE][:MAX_CONCERNED]


def near_misses(rejected: Sequence[Rejection]) -> str:
    """The first rejections, machines with the same reason together, and how many others there are."""
    names: dict[str, list[str]] = {}
    for one in rejected:
        names.setdefault(one.reason, []).append(one.name)
    near = list(names.items())[:NEAR_MISSES]
    texts = [f"{clip_list(machines)}: {reason_text(reason)}" for reason, machines in near]
    if others := len(rejected) - sum(len(machines) for _, machines in near):
        texts.append(f"and {others} more")
    return "; ".join(texts) or "there is none"


@contextmanager
def explaining_misses(
    question: Question, fleet: Fleet, rank: Callable[[Question], Ranking | None]
) -> Iterator[None]:
    """Refuse an impossible model name; if no machine is fit, say what to change in the question.

    That is a similar name if no machine has the model, or cold=true if one could load it: `rank` answers
    another question given the same fleet and leases. Both take some time, so they are found while the leases
    are not locked.
    """
    if not question.model:
        yield
        return
    key = model_key(question.model)
    if canonical(question.model) is None and not (fleet.declares_model(key) or fleet.has_model(key)):
        similar = similar_names(question.model, fleet.model_names)
        raise BadParameterError("model", f"is not the name of a model: {clip(question.model)}", similar)
    try:
        yield
    except NoMachineError as error:
        if not fleet.has_model(key):
            similar = similar_names(question.model, fleet.model_names)
            may_show_up = any(one.code is RejectionCode.UNKNOWN for one in error.rejected)
            retry_after_s = error.retry_after_s if may_show_up else None
            raise NoMachineError(str(error), error.rejected, retry_after_s, similar) from None
        may_load = not question.cold and any(one.code in CURED_BY_LOADING for one in error.rejected)
        ranking = rank(replace(question, cold=True)) if may_load else None
        if ranking and ranking.candidates:
            could_load = ranking.candidates[0].state.machine.name
            message = f"{error} With cold=true, {could_load} could load it."
            raise NoMachineError(message, error.rejected, error.retry_after_s) from None
        raise
