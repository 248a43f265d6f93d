"""What schemathesis imports: it signs requests if there is a key, and does not wait for machines."""

from collections.abc import MutableMapping
from typing import Any

import requests
import schemathesis
from schemathesis.auths import GLOBAL_AUTH_STORAGE

from machines_client.signing import Sign, signing

LONGEST_S = 0.01
"""The longest wait_s, since 60 s are as good."""


class Signed(requests.auth.AuthBase):
    """Signs a request as it will be sent."""

    def __init__(self, sign: Sign) -> None:
        self._sign = sign

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the headers of a signature."""
        body = request.body or b""
        content = body.encode() if isinstance(body, str) else bytes(body)
        request.headers.update(self._sign(request.method or "GET", request.path_url, content))
        return request


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case[Any], __: dict[str, Any]) -> None:
    """Shorten valid waits."""
    for parameters in (case.query, case.body):
        if isinstance(parameters, MutableMapping) and _is_long(parameters.get("wait_s")):
            parameters["wait_s"] = str(LONGEST_S) if parameters is case.query else LONGEST_S


def _is_long(wait_s: object) -> bool:
    """Whether it is a valid wait, which a query has as text, and a long one."""
    try:
        return isinstance(wait_s, str | float) and LONGEST_S < float(wait_s) <= 60
    except ValueError:
        return False


if (sign := signing(None, None, None)) is not None:
    GLOBAL_AUTH_STORAGE.set_from_requests(Signed(sign))
