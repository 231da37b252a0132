"""Who the command line talks to, and how it says no.

The publisher's URL and token come from the options, from `GATESYNC_PUBLISHER` and
`GATESYNC_TOKEN`, or from the `client.toml` that a publisher of this folder wrote.
"""

import asyncio
import os
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from gatesync.cli.running import EXIT_UNREACHABLE, EXIT_WRONG
from gatesync.config import Secret
from gatesync.private_file import write_private_file
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError, open_client

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
    """A publisher, and the token for it."""

    url: str
    token: Secret | None


def find_target(publisher: str | None, environ: dict[str, str] | None = None) -> Target:
    """Whom to talk to. Raises `CommandError` for a client file that cannot be read."""
    environ = dict(os.environ) if environ is None else environ
    known = _read_client_file(CLIENT_FILE)
    url = publisher or environ.get("GATESYNC_PUBLISHER") or known.get("publisher") or DEFAULT_URL
    token = environ.get("GATESYNC_TOKEN") or known.get("token")
    return Target(url, Secret(token) if token else None)


def write_client_file(path: Path, url: str, token: str | None) -> None:
    """Tell the command line of this folder where its publisher is; keep the token it has."""
    kept = token or _read_client_file(path).get("token")
    lines = ["# Written by the publisher; the command line reads it.", f'publisher = "{url}"']
    if kept:
        lines.append(f'token = "{kept}"')
    write_private_file(path, ("\n".join(lines) + "\n").encode())


@asynccontextmanager
async def open_session(target: Target, timeout: float = 60.0) -> AsyncIterator[HttpClient]:
    """Open a client to the publisher.

    Raises `CommandError` where the URL is none.
    """
    token = target.token.reveal() if target.token else None
    try:
        opening = open_client(target.url, token, timeout=timeout)
    except ValueError as error:
        raise CommandError(EXIT_WRONG, str(error)) from None
    async with opening as client:
        yield client


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
        reason = "start one with 'gatesync up', or name one with --publisher or GATESYNC_PUBLISHER"
        raise CommandError(EXIT_UNREACHABLE, str(error), reason) from None
    except AnsweredError as error:
        if error.status in {401, 403}:
            where = "set GATESYNC_TOKEN, or run in the folder whose publisher wrote client.toml"
            raise CommandError(EXIT_WRONG, *error.reasons, where) from None
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
