"""What doctor finds."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `hint` says how to fix it."""

    what: str
    verdict: Verdict
    finding: str
    hint: str | None = None
