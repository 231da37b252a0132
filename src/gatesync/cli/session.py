"""Who the command line talks to, and how it says no.

The publishers' URLs, the token, and the files of TLS come from the options, from
`GATESYNC_PUBLISHER`, `GATESYNC_TOKEN`, `GATESYNC_CA`, `GATESYNC_CERT` and `GATESYNC_KEY`, or from
the `client.toml` that a publisher of this folder wrote.
"""

import asyncio
import json
import os
import sys
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from gatesync.cli.failover import FailoverClient, NoneAnsweredError
from gatesync.cli.running import EXIT_UNREACHABLE, EXIT_WRONG
from gatesync.config import Secret
from gatesync.private_file import write_private_file
from gatesync.web.client import (
    AnsweredError,
    HttpClient,
    TlsFailedError,
    UnreachableError,
    open_client,
)
from gatesync.web.tls import ClientTls

__all__ = ["CommandError", "Target", "call", "find_target", "open_session", "write_client_file"]

CLIENT_FILE: Final = Path("gatesync-data") / "client.toml"
DEFAULT_URL: Final = "http://127.0.0.1:9640"

_T = TypeVar("_T")


class CommandError(Exception):
    """What a command ends with when it cannot do what was asked: a code and reasons."""

    def __init__(self, code: int, *reasons: str) -> None:
        self.code = code
        self.reasons = reasons
        super().__init__("\n".join(reasons))


class Target(msgspec.Struct, frozen=True):
    """Publishers on one store, the first to be asked first, the token for them, and their TLS."""

    urls: tuple[str, ...]
    token: Secret | None
    tls: ClientTls | None = None


def find_target(publishers: Sequence[str] | None, environ: dict[str, str] | None = None) -> Target:
    """Whom to talk to; several URLs may stand in one text, with commas or spaces between them.

    Raises `CommandError` for a client file that cannot be read.
    """
    environ = dict(os.environ) if environ is None else environ
    known = _read_client_file(CLIENT_FILE)
    given = " ".join(publishers or ()) or environ.get("GATESYNC_PUBLISHER", "")
    urls = given.replace(",", " ").split() or [known.get("publisher") or DEFAULT_URL]
    token = environ.get("GATESYNC_TOKEN") or known.get("token")
    tls = ClientTls(
        ca=_path("GATESYNC_CA", "ca", environ, known),
        client_certificate=_path("GATESYNC_CERT", "client_certificate", environ, known),
        client_key=_path("GATESYNC_KEY", "client_key", environ, known),
    )
    if (tls.client_certificate is None) != (tls.client_key is None):
        reason = "GATESYNC_CERT and GATESYNC_KEY go together: a certificate and its key"
        raise CommandError(EXIT_WRONG, reason)
    return Target(
        tuple(dict.fromkeys(urls)),
        Secret(token) if token else None,
        tls if tls != ClientTls() else None,
    )


def _path(
    variable: str, key: str, environ: Mapping[str, str], known: Mapping[str, str]
) -> Path | None:
    """As given, or from the client file, whose folder a relative path in it begins at."""
    if given := environ.get(variable):
        return Path(given)
    return CLIENT_FILE.parent / known[key] if known.get(key) else None


def write_client_file(path: Path, url: str, token: str | None, ca: Path | None = None) -> None:
    """Tell the command line of this folder where its publisher is; keep the token it has."""
    before = {} if token else _read_client_file(path)
    kept = token or before.get("token")
    lines = ["# Written by the publisher; the command line reads it.", f'publisher = "{url}"']
    if kept:
        lines.append(f'token = "{kept}"')
    if ca is not None:
        inside = ca.is_relative_to(path.parent)
        lines.append(f"ca = {json.dumps(str(ca.relative_to(path.parent) if inside else ca))}")
    lines += [
        f"{key} = {json.dumps(before[key])}"
        for key in ("client_certificate", "client_key")
        if key in before
    ]
    write_private_file(path, ("\n".join(lines) + "\n").encode())


@asynccontextmanager
async def open_session(target: Target, timeout: float = 60.0) -> AsyncIterator[HttpClient]:
    """Open a client to the publisher, or to several as one.

    Raises `ValueError` where a URL is none.
    """
    token = target.token.reveal() if target.token else None
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                open_client(url, token, timeout=timeout, tls=target.tls)
            )
            for url in target.urls
        ]
        yield clients[0] if len(clients) == 1 else FailoverClient(clients, _tell_next)


def _tell_next(reason: str, url: str) -> None:
    print(f"gatesync: {reason}; trying {url}", file=sys.stderr)


def call(target: Target, work: Callable[[HttpClient], Awaitable[_T]]) -> _T:
    """Run one conversation with the publisher, and turn its failures into exit codes.

    Raises:
        CommandError: 3 when no answer came, 2 when the publisher refused the request.
    """

    async def conversation() -> _T:
        async with open_session(target) as client:
            return await work(client)

    try:
        return asyncio.run(conversation())
    except UnreachableError as error:
        if isinstance(error, TlsFailedError):
            raise CommandError(EXIT_UNREACHABLE, str(error)) from None
        reason = "start one with 'gatesync up', or name one with --publisher or GATESYNC_PUBLISHER"
        tried = error.reasons if isinstance(error, NoneAnsweredError) else (str(error),)
        raise CommandError(EXIT_UNREACHABLE, *tried, reason) from None
    except AnsweredError as error:
        if error.status in {401, 403}:
            said = error.reasons if len(target.urls) == 1 else (str(error),)  # which one says so
            where = "set GATESYNC_TOKEN, or run in the folder whose publisher wrote client.toml"
            raise CommandError(EXIT_WRONG, *said, where) from None
        unreachable = error.status >= 500
        raise CommandError(
            EXIT_UNREACHABLE if unreachable else EXIT_WRONG, *error.reasons
        ) from None
    except ValueError as error:
        raise CommandError(EXIT_WRONG, str(error)) from None


def _read_client_file(path: Path) -> dict[str, str]:
    try:
        return {key: str(value) for key, value in tomllib.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CommandError(EXIT_WRONG, f"{path} cannot be read: {error}") from None
