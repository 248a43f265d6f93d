"""The problems found in one machine file, each with its line and column."""

from typing import Any, Literal

from machines_server.core.machine import Problem
from machines_server.core.text import one_line
from machines_server.inventory.limits import MAX_PROBLEMS_OF_A_FILE

KeyPath = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""
Severity = Literal["error", "warning"]
Position = tuple[int | None, int | None]
"""Line and column, counted from 1; None if unknown."""


class UnreadableFileError(Exception):
    """The file cannot be read further, so this is its only problem."""

    def __init__(
        self, message: str, line: int | None = None, column: int | None = None, path: KeyPath = ()
    ) -> None:
        super().__init__(message)
        self.message, self.line, self.column, self.path = message, line, column, path


class ProblemList:
    """Collects the problems of one file.

    `mark` is a mark of ruamel.yaml, whose lines and columns count from 0.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._problems: list[Problem] = []
        self._unlisted = 0
        self._marks: dict[KeyPath, Any] = {}

    def remember_position(self, path: KeyPath, mark: Any) -> None:
        """Remember the position of the key `path` for problems found later."""
        self._marks[path] = mark

    def position(self, path: KeyPath) -> Position:
        """Line and column of the key `path`, or of its nearest parent that has them."""
        while path not in self._marks and path:
            path = path[:-1]
        mark = self._marks.get(path)
        return (mark.line + 1, mark.column + 1) if mark else (None, None)

    def add(self, message: str, path: KeyPath, mark: Any = None, severity: Severity = "error") -> None:
        """Add a problem at `mark`, or else at the position of the key `path`.

        The first error is listed even after MAX_PROBLEMS_OF_A_FILE warnings.
        """
        if len(self._problems) >= MAX_PROBLEMS_OF_A_FILE and (severity == "warning" or self.has_errors):
            self._unlisted += 1
            return
        line, column = (mark.line + 1, mark.column + 1) if mark else self.position(path)
        problem = make_problem(self.file, message, path, line, column, severity)
        if problem not in self._problems:
            self._problems.append(problem)

    @property
    def has_errors(self) -> bool:
        """Whether one of the problems is an error."""
        return any(problem.severity == "error" for problem in self._problems)

    @property
    def keys_with_errors(self) -> set[str | None]:
        """The keys with an error, in the form of `dotted`."""
        return {problem.key for problem in self._problems if problem.severity == "error"}

    def in_order(self) -> tuple[Problem, ...]:
        """The problems in file order; the last may say how many more there are."""
        listed = sorted(self._problems, key=lambda problem: (problem.line or 0, problem.column or 0))
        if self._unlisted:
            severity: Severity = "error" if self.has_errors else "warning"
            message = f"there are {self._unlisted:,} more problems in this file"
            listed.append(Problem(self.file, message, severity=severity))
        return tuple(listed)


def make_problem(
    file: str,
    message: str,
    path: KeyPath = (),
    line: int | None = None,
    column: int | None = None,
    severity: Severity = "error",
) -> Problem:
    """A problem whose texts are short enough for a log line."""
    key = one_line(dotted(path), 200) or None
    return Problem(file, one_line(message, 400), line, column, key, severity)


def dotted(path: KeyPath) -> str:
    """A key path as people write it: `hardware.gpu[1].vram_gb`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
