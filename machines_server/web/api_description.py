"""The description of the API for programs, GET /openapi.json, and for people, GET /docs."""

from functools import cache

import orjson
from flask import Blueprint, Response

from machines_server.contract.openapi import openapi_json
from machines_server.web.dashboard import PageFile, file_response, page_file
from machines_server.web.docs_page import docs_page


def make_api_description() -> Blueprint:
    """Both routes; their answers are read and made when they are first requested."""
    description = Blueprint("description", __name__)

    @description.get("/openapi.json")
    def openapi() -> Response:
        return file_response(_openapi())

    @description.get("/docs")
    def docs() -> Response:
        return file_response(_docs())

    return description


@cache
def _openapi() -> PageFile:
    return page_file("openapi.json", openapi_json())


@cache
def _docs() -> PageFile:
    return page_file("docs.html", docs_page(orjson.loads(openapi_json())))
