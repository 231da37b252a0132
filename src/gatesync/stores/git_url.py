"""Where a repository is, and which way git may go there."""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from gatesync.secret import Secret
from gatesync.stores.git_source import GitSource
from gatesync.stores.store import StoreError

__all__ = ["Remote", "remote_of"]

_FORMS: Final = "https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH or file:///PATH"
_SCP: Final = re.compile(
    r"(?:[\w.+-]+@)?(?:[A-Za-z0-9][\w.-]*|\[[0-9A-Fa-f:.]+\]):(?!//)[^\0-\x20]+"
)
# What git-check-ref-format(1) refuses, and what only looks like a branch.
_NO_BRANCH: Final = re.compile(
    r"^[-/]|^$|^@$|\.\.|//|@\{|/\.|^\.|\.lock(?:/|$)|[\x00-\x20\x7f~^:?*\[\\]|[/.]$"
)


class Remote(msgspec.Struct, frozen=True):
    """A source's URL, taken apart.

    Attributes:
        url: without name and password, except the name of ssh.
        protocols: what git may speak, as `GIT_ALLOW_PROTOCOL` has it.
        username, password: for http and https.
        site: scheme and host of http and https, else empty.
        folder: of `file://`, else empty.
    """

    url: str
    protocols: str
    username: str = ""
    password: Secret | None = None
    site: str = ""
    folder: str = ""


def remote_of(source: GitSource) -> Remote:
    """Take the source's URL apart.

    Raises:
        StoreError: git is not to go there, or the branch or the path is none.
    """
    if _NO_BRANCH.search(source.branch):
        raise StoreError(f"{source}: {source.branch!r} is not the name of a branch")
    steps = source.path.split("/") if source.path else []
    if any(step in {"", ".", "..", ".git"} for step in steps) or not source.path.isprintable():
        raise StoreError(f"{source}: path {source.path!r} must be relative, as apis/production")
    text = source.url.reveal()
    if text.startswith("/"):
        text = f"file://{quote(text)}"
    if "://" not in text and _SCP.fullmatch(text):
        return Remote(text, "ssh")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise StoreError(f"{source}: the url cannot be read; write {_FORMS}") from None
    if parts.scheme == "file":
        return Remote(text, "file", folder=unquote(parts.path))
    if not host or host.startswith("-") or not text.isprintable():
        raise StoreError(f"{source}: git is not to go there; write {_FORMS}")
    if parts.scheme == "ssh":
        user = f"{parts.username}@" if parts.username else ""
        return Remote(f"ssh://{user}{_authority(host, port)}{parts.path}", "ssh")
    if parts.scheme not in ("https", "http"):
        raise StoreError(f"{source}: git is not to go there; write {_FORMS}")
    return _over_http(source, parts, f"{parts.scheme}://{_authority(host, port)}")


def _over_http(source: GitSource, parts: SplitResult, site: str) -> Remote:
    loopback = _is_loopback(parts.hostname or "")
    if parts.scheme == "http" and not (source.allow_plaintext or loopback):
        raise StoreError(
            f"{source}: plain http would show everybody the credentials and the artifacts; "
            "write https, or set allow_plaintext = true"
        )
    password = source.password or (Secret(unquote(parts.password)) if parts.password else None)
    username = source.username or unquote(parts.username or "")
    return Remote(
        url=f"{site}{parts.path}",
        protocols=parts.scheme,
        username=username or ("git" if password else ""),
        password=password,
        site=site,
    )


def _authority(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
