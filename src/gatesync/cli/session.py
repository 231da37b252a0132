"""Who the command line talks to, and how it says no.

The publishers' URLs and the token come from the options, from `GATESYNC_PUBLISHER` and
`GATESYNC_TOKEN`, or from the `client.toml` that a publisher of this folder wrote.
"""

import asyncio
import os
import sys
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from gatesync.cli.failover import FailoverClient, NoneAnsweredError
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
    """Publishers on one store, the first to be asked first, and the token for them."""

    urls: tuple[str, ...]
    token: Secret | None


def find_target(publishers: Sequence[str] | None, environ: dict[str, str] | None = None) -> Target:
    """Whom to talk to; several URLs may stand in one text, with commas or spaces between them.

    Raises `CommandError` for a client file that cannot be read.
    """
    environ = dict(os.environ) if environ is None else environ
    known = _read_client_file(CLIENT_FILE)
    given = " ".join(publishers or ()) or environ.get("GATESYNC_PUBLISHER", "")
    urls = given.replace(",", " ").split() or [known.get("publisher") or DEFAULT_URL]
    token = environ.get("GATESYNC_TOKEN") or known.get("token")
    return Target(tuple(dict.fromkeys(urls)), Secret(token) if token else None)


def write_client_file(path: Path, url: str, token: str | None) -> None:
    """Tell the command line of this folder where its publisher is; keep the token it has."""
    kept = token or _read_client_file(path).get("token")
    lines = ["# Written by the publisher; the command line reads it.", f'publisher = "{url}"']
    if kept:
        lines.append(f'token = "{kept}"')
    write_private_file(path, ("\n".join(lines) + "\n").encode())


@asynccontextmanager
async def open_session(target: Target, timeout: float = 60.0) -> AsyncIterator[HttpClient]:
    """Open a client to the publisher, or to several as one.

    Raises `ValueError` where a URL is none.
    """
    token = target.token.reveal() if target.token else None
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_client(url, token, timeout=timeout))
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
