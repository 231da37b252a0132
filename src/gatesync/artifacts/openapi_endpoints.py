"""Where an API's requests go: the URL that a person gave, or the one that the document has."""

import re
from typing import Any, Final
from urllib.parse import urlsplit

from gatesync.artifacts.errors import Problem

__all__ = ["check_url", "servers_of"]

_HTTP: Final = ("https", "http")  # in the order in which they are preferred
_URL: Final = re.compile(r"[A-Za-z0-9/%~!$&'()*+,;=:@._\[\]-]+")
_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")


def servers_of(document: dict[str, Any]) -> list[str]:
    """The URLs to which a sound document sends requests, in its order, variables filled in.

    Those to which nothing can be sent as they stand, such as relative ones, are left out.
    """
    if "swagger" in document:
        host, path = document.get("host", ""), document.get("basePath", "")
        schemes = [each for each in _HTTP if each in document.get("schemes", _HTTP[:1])]
        urls = [f"{each}://{host}{path}" for each in schemes if host]
    else:
        urls = [_filled(each) for each in document.get("servers", [])]
    return [url.rstrip("/") for url in urls if _is_sound(url)]


def check_url(url: str, what: str) -> str:
    """Return the URL of an endpoint without the slash at its end, or raise `Problem`.

    Messages call it `what`. They do not repeat it: it may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Problem(f"{what} is no URL: {error}") from None
    if parts.scheme not in _HTTP or not parts.hostname:
        raise Problem(f"{what} must be http://host... or https://host...")
    if "@" in parts.netloc:
        raise Problem(f"{what} has a login in it, which no artifact may hold; take it out")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise Problem(f"{what} has a query or a fragment; what a request asks for comes after it")
    if not _URL.fullmatch(url):
        reason = "letters and digits of ASCII, %-encoded where others are meant, and no braces"
        raise Problem(f"{what} has a character that endpoints cannot have; write it in {reason}")
    if port == 0:
        raise Problem(f"{what} has port 0, where nothing listens")
    return url.rstrip("/")


def _is_sound(url: str) -> bool:
    try:
        check_url(url, "")
    except Problem:
        return False
    return True


def _filled(server: dict[str, Any]) -> str:
    variables = server.get("variables", {})

    def default(found: re.Match[str]) -> str:
        return str(variables.get(found[1], {}).get("default", found[0]))

    return _VARIABLE.sub(default, server["url"])
