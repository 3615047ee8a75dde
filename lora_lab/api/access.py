"""Who may ask: what the webui's own authentication says, and never somebody else's web page."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import HTTPException, Request

MAX_BODY = 1 << 20
"""Bytes of a question's body; settings take a few thousand."""


def guard(credentials: Mapping[str, str], app: Any) -> Callable[[Request], None]:  # noqa: ANN401 - gradio's App
    """What is asked before each route.

    Args:
        credentials: user -> password of the webui's ``--api-auth``; when there are any, HTTP basic is asked for.
        app: the webui's. When people must log in to its page and there are no `credentials`, their login is asked for.
    """

    def allowed(request: Request) -> None:
        _check_body(request)
        if credentials:
            _check_basic(request, credentials)
        elif getattr(app, "auth", None) is not None:
            _check_login(request, app)

    return allowed


def _check_body(request: Request) -> None:
    """A browser sends another site's page only simple bodies without asking; JSON is none. And no endless ones."""
    if request.method in ("GET", "HEAD"):
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "send a JSON body, with Content-Type: application/json")
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise HTTPException(411, "say how long the body is, with Content-Length")
    if int(length[:20]) > MAX_BODY:
        raise HTTPException(413, f"the body is longer than {MAX_BODY:,} bytes")


def _check_basic(request: Request, credentials: Mapping[str, str]) -> None:
    scheme, _, code = request.headers.get("authorization", "").partition(" ")
    try:
        plain = base64.b64decode(code, validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        plain = b""
    user, mark, password = plain.partition(b":")
    known = {name.encode(): word.encode() for name, word in credentials.items()}
    good = secrets.compare_digest(password, known.get(user, b"\0" * 8))  # compared also where the user is not known
    if not (mark and user in known and good):
        raise HTTPException(401, "wrong user or password", {"WWW-Authenticate": "Basic"})


def _check_login(request: Request, app: Any) -> None:  # noqa: ANN401 - gradio's App
    """gradio's cookies: the second is for pages without TLS."""
    cookies = (request.cookies.get("access-token"), request.cookies.get("access-token-unsecure"))
    if not any(token and app.tokens.get(token) for token in cookies):
        raise HTTPException(401, "log in to the page first, or start the webui with --api-auth")
