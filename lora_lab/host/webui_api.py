"""Whether the webui offers an API, and to whom."""

from __future__ import annotations

from modules import shared


def credentials() -> dict[str, str] | None:
    """User -> password of ``--api-auth``; none when there is no such option. None: the webui offers no API."""
    options = shared.cmd_opts
    if not (options.api or options.nowebui):
        return None
    pairs = (pair.partition(":") for pair in (options.api_auth or "").split(",") if pair)
    return {user: password for user, _, password in pairs}
