"""Signing in with a browser, by a link that an agent has signed for."""

from html import escape
from string import Template
from urllib.parse import quote

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from machines_server.auth.sessions import SESSION_S, Sessions
from machines_server.contract.encoding import encode
from machines_server.contract.sessions import LoggedOut, LoginLink
from machines_server.core.times import rfc3339
from machines_server.errors import ConflictError
from machines_server.web.messages import JSON_TYPE, PAGE_HEADERS, SESSION_COOKIE

_MAX_FORM_BYTES = 4096
"""Anybody may send this form."""
_SIGN_IN_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title - machines-server</title>
<link rel="icon" href="$root/static/icon.svg" type="image/svg+xml">
<script src="$root/static/theme.js"></script>
<link rel="stylesheet" href="$root/static/style.css">
<link rel="stylesheet" href="$root/static/sign_in.css">
<script type="module" src="$root/static/sign_in.js"></script>
</head>
<body>
<main class="sign-in">
<h1><img src="$root/static/icon.svg" alt="" width="32" height="32"> $title to machines-server</h1>
$content
</main>
</body>
</html>
""")
_HOW = """<p>This server shows its fleet to those who sign in. On a host that has an agent's key, run</p>
<pre>machines-server login --server ADDRESS_OF_THIS_SERVER</pre>
<p>and open the link that it prints. The link works once, within five minutes.</p>"""
_ONCE = """<p>This link signs you in for twelve hours, to look at the fleet.</p>
<form method="post" action="$root/login">
<input type="hidden" name="token" value="$token">
<button class="primary" autofocus>Sign in</button>
</form>"""
_USED = "<p>This link has been used, or is older than five minutes.</p>"


def sign_in_page(root: str, *, is_used: bool = False) -> bytes:
    """The page that says how to sign in; `root` is the path of the site's root, without its last slash."""
    content = f"{_USED}\n{_HOW}" if is_used else _HOW
    return _SIGN_IN_PAGE.substitute(title="Sign in", root=escape(root), content=content).encode()


def make_login(sessions: Sessions | None) -> Blueprint:
    """The routes of signing in; without `sessions`, all of them say that nobody needs to."""
    login = Blueprint("login", __name__)

    def checked() -> Sessions:
        if sessions is None:
            raise ConflictError("auth_off", "AUTH_MODE is off: nobody needs to sign in.")
        return sessions

    @login.post("/api/login")
    def link() -> Response:
        made = checked().link(_agent())
        content = LoginLink(f"/login?token={quote(made.text, safe='')}", rfc3339(made.ends_at))
        return _json(encode(content))

    @login.post("/api/logout")
    def logout() -> Response:
        _agent()
        checked().end_all()
        return _json(encode(LoggedOut()))

    @login.get("/login")
    def ask() -> Response:
        checked()
        token = request.args.get("token", "")
        if not token:
            return _page(sign_in_page(request.root_path.rstrip("/")))
        root = escape(request.root_path.rstrip("/"))
        content = Template(_ONCE).substitute(root=root, token=escape(token))
        return _page(_SIGN_IN_PAGE.substitute(title="Sign in", root=root, content=content).encode())

    @login.post("/login")
    def begin() -> AnyResponse:
        request.max_content_length = _MAX_FORM_BYTES
        session = checked().begin(request.form.get("token", ""))
        if session is None:
            return _page(sign_in_page(request.root_path.rstrip("/"), is_used=True), 403)
        response = redirect(f"{request.root_path.rstrip('/')}/", 303)
        response.set_cookie(
            SESSION_COOKIE,
            session.text,
            max_age=int(SESSION_S),
            path=f"{request.root_path.rstrip('/')}/",
            secure=request.is_secure,
            httponly=True,
            samesite="Strict",
        )
        return response

    return login


def _agent() -> str:
    """The agent that signed the request."""
    if request.remote_user is None:
        raise ConflictError("unsigned", "Sign this request: its answer depends on who sends it.")
    return request.remote_user


def _json(content: bytes) -> Response:
    response = Response(content, mimetype=JSON_TYPE)
    response.cache_control.no_store = True
    return response


def _page(content: bytes, status: int = 200) -> Response:
    response = Response(content, status, mimetype="text/html", headers=PAGE_HEADERS)
    response.cache_control.no_store = True
    return response
