"""The services of the server's own host, which SERVICES_YAML lists."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from machines_server.core.machine import HostService, Problem
from machines_server.inventory.host_services import service_warnings, services_of
from machines_server.inventory.machine_file import rule_error, unexpected
from machines_server.inventory.problem_list import ProblemList, UnreadableFileError, dotted, make_problem
from machines_server.inventory.scan import TooLargeError, display_name, read_regular
from machines_server.inventory.schema import ServicesFile
from machines_server.inventory.yaml.read import read_yaml

OWN_HOSTNAME = "127.0.0.1"
_FOLLOWING_LINKS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

log = logging.getLogger(__name__)


class OwnServices:
    """Reads the file whenever it is asked, and parses it when it has changed; thread-safe.

    While the file is broken, its last good version stays in force. Without a file there are no services.
    """

    def __init__(self, path: Path, on_problem: Callable[[Problem], None] = lambda _: None) -> None:
        """`on_problem` is called once with each new problem."""
        self._path, self._on_problem = path, on_problem
        self._name = display_name(path.name)
        self._lock = threading.Lock()
        self._content: bytes | None = b""
        self._services: tuple[HostService, ...] = ()
        self._problems: tuple[Problem, ...] = ()

    def current(self) -> tuple[HostService, ...]:
        """The services that are polled."""
        with self._lock:
            self._refresh()
            return self._services

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the file."""
        with self._lock:
            self._refresh()
            return self._problems

    def _refresh(self) -> None:
        before = self._problems
        try:
            content = read_regular(os.open(self._path, _FOLLOWING_LINKS))
        except FileNotFoundError:
            self._content, self._services, self._problems = b"", (), ()
        except (OSError, TooLargeError) as error:
            message = f"the file cannot be read: {getattr(error, 'strerror', None) or error}"
            self._content, self._problems = None, (Problem(self._name, message),)
        else:
            if content != self._content:
                self._content = content
                self._parse(content)
        for problem in self._problems:
            if problem not in before:
                self._on_problem(problem)

    def _parse(self, content: bytes) -> None:
        try:
            document = read_yaml(content, self._name, list_key="services")
            self._problems = self._check(document.declared, document.problems)
        except UnreadableFileError as error:
            problem = make_problem(self._name, error.message, error.path, error.line, error.column)
            self._problems = (problem,)
        except Exception as error:
            log.exception("%s cannot be read", self._name)
            self._problems = (Problem(self._name, unexpected(error)),)

    def _check(self, declared: dict[str, Any], problems: ProblemList) -> tuple[Problem, ...]:
        known_errors = problems.keys_with_errors
        try:
            checked = ServicesFile.model_validate(declared)
        except ValidationError as error:
            for path, message in rule_error(error):
                if dotted(path) not in known_errors:
                    problems.add(message, path)
        else:
            for path, message in service_warnings(checked.services):
                problems.add(message, path, severity="warning")
            if not problems.has_errors:
                self._services = services_of(checked.services, OWN_HOSTNAME)
        return problems.in_order()
