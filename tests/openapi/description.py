"""Compares answers with what openapi.json says about them."""

import json
import re
from functools import cached_property
from typing import Any

import requests
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tools.openapi import PATH

_URI = "urn:openapi"


class Description:
    """The document."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = json.loads(PATH.read_text("utf-8"))

    def operations(self) -> set[str]:
        """The method and the path of each operation."""
        return {
            f"{method.upper()} {path}" for path, item in self.document["paths"].items() for method in item
        }

    def check(self, method: str, target: str, response: requests.Response) -> None:
        """Fail unless a response to a request for a described path is one that is described."""
        from jsonschema import (
            Draft202012Validator,
        )  # importing it takes three seconds, in every process of a run

        path = self._path_of(target.partition("?")[0])
        operation = self.document["paths"][path].get(method.lower()) if path else None
        if path is None or operation is None:
            assert response.status_code in (404, 405), f"openapi.json lacks {method} {target}"
            return
        where = ["paths", path, method.lower(), "responses", str(response.status_code)]
        described = operation["responses"].get(where[-1])
        assert described, f"openapi.json lacks {response.status_code} of {method} {path}: {response.text}"
        if shared := described.get("$ref"):
            where = shared.removeprefix("#/").split("/")
            described = self.document["components"]["responses"][where[-1]]
        media = response.headers.get("Content-Type", "").partition(";")[0]
        assert media in described.get("content", {"": None}), f"{media} of {method} {path}"
        if media == "application/json":
            pointer = "/".join(re.sub("/", "~1", part) for part in [*where, "content", media, "schema"])
            schema = {"$ref": f"{_URI}#/{pointer}"}
            Draft202012Validator(schema, registry=self._registry).validate(response.json())

    def _path_of(self, target: str) -> str | None:
        """The described path that a requested one is, those without parameters first."""
        for path in sorted(self.document["paths"], key=lambda path: "{" in path):
            if re.fullmatch(re.sub("{[a-z]+}", "[^/]+", path), target):
                return str(path)
        return None

    @cached_property
    def _registry(self) -> "Registry[Any]":
        found: Registry[Any] = Registry()
        return found.with_resources([(_URI, DRAFT202012.create_resource(self.document))])


DESCRIPTION = Description()
